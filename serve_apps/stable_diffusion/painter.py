"""Prompts to images: diffusers' own pipeline around four compiled modules.

The modules, and the guidance pair over two NeuronCores, are those of AWS's sample for Stable Diffusion 2.1
(archive/src/benchmark/pytorch/sd2_512_compile.py and sd2_512_benchmark.py in
https://github.com/aws-neuron/aws-neuron-sdk, looked up 2026-11).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from serve_apps.artifacts import ArtifactStore
from serve_apps.models import resolve_pipeline
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from serve_apps.stable_diffusion.painting import Painting
from serve_apps.tracing import CompiledModule, Tracer

_PIPELINE = "StableDiffusionPipeline"
# The prompt and the empty one that guidance leads away from.
_GUIDANCE_PAIR = 2
_UNET_ARGS = ["--model-type=unet-inference"]


class PainterConfigError(ValueError):
    """The arguments and the model do not go together; the message has the way out."""


class CancelledError(Exception):
    """The image is not wanted any more."""


class Painter:
    """A pipeline compiled for square images of some sizes; for one thread."""

    def __init__(
        self, model_dir: Path, args: StableDiffusionArgs, artifacts: ArtifactStore | None = None
    ) -> None:
        """Raises `PainterConfigError`, or what `Tracer` raises."""
        self._pipeline = _load(args.model, model_dir)
        self._pipeline.set_progress_bar_config(disable=True)
        _compile(self._pipeline, Tracer(args.device, artifacts, cores=args.neuron_cores), args.sizes)

    def paint(self, painting: Painting, cancelled: Event) -> bytes:
        """A PNG. Raises `CancelledError` after the step in which `cancelled` is set."""

        def after_step(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if cancelled.is_set():
                raise CancelledError
            return values

        if cancelled.is_set():
            raise CancelledError
        with torch.inference_mode():
            image = self._pipeline(
                painting.prompt,
                height=painting.size,
                width=painting.size,
                num_inference_steps=painting.steps,
                guidance_scale=painting.guidance,
                # On the host, so that a seed means the same whatever computes.
                generator=torch.Generator("cpu").manual_seed(painting.seed),
                callback_on_step_end=after_step,
            ).images[0]
        png = io.BytesIO()
        image.save(png, format="PNG")
        return png.getvalue()


def build_painter(args: StableDiffusionArgs) -> Painter:
    """The painter that `args` describe. May download the model first, and compile it."""
    return Painter(resolve_pipeline(args.model), args, ArtifactStore.from_environment())


class _TextEncoder(nn.Module):
    """Token ids `[1, tokens]` to states `[1, tokens, width]`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(ids, return_dict=False)[0]


class _UNet(nn.Module):
    """Latents, one time a row, and states to noise of the latents' shape."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        return self.unet(latents, times, states, return_dict=False)[0]


class _CompiledTextEncoder(nn.Module):
    """In the place of the pipeline's text encoder."""

    def __init__(self, compiled: CompiledModule, original: Any) -> None:
        super().__init__()
        self._compiled, self.config = compiled, original.config
        self.dtype, self.device = original.dtype, torch.device("cpu")

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor]:
        if attention_mask is not None:
            raise PainterConfigError("text encoders with an attention mask are not compiled here")
        return (self._compiled(ids),)


class _CompiledUNet(nn.Module):
    """In the place of the pipeline's UNet."""

    def __init__(self, compiled: CompiledModule, original: Any) -> None:
        super().__init__()
        self._compiled, self.config = compiled, original.config
        self.dtype, self.device = original.dtype, torch.device("cpu")

    def forward(
        self, latents: Tensor, time: Tensor, encoder_hidden_states: Tensor, **_options: object
    ) -> tuple[Tensor]:
        times = time.to(latents.dtype).expand(latents.shape[0]).contiguous()
        return (self._compiled(latents, times, encoder_hidden_states),)


class _CompiledPart(nn.Module):
    """In the place of a part of the VAE."""

    def __init__(self, compiled: CompiledModule) -> None:
        super().__init__()
        self._compiled = compiled

    def forward(self, latents: Tensor) -> Tensor:
        return self._compiled(latents)


def _compile(pipeline: Any, tracer: Tracer, sizes: list[int]) -> None:
    """Replace the pipeline's modules by compiled ones."""
    text, unet, vae = pipeline.text_encoder, pipeline.unet, pipeline.vae
    tokens = pipeline.tokenizer.model_max_length
    ids = torch.zeros(1, tokens, dtype=torch.int64)
    sides = [size // pipeline.vae_scale_factor for size in sizes]
    rows = _GUIDANCE_PAIR
    noise = [
        (
            torch.randn(rows, unet.config.in_channels, side, side),
            torch.full((rows,), 999.0),
            torch.randn(rows, tokens, text.config.hidden_size),
        )
        for side in sides
    ]
    latents = [(torch.randn(1, vae.config.latent_channels, side, side),) for side in sides]
    text_encoder = tracer.compile("text_encoder", _TextEncoder(text), [(ids,)])
    denoiser = tracer.compile("unet", _UNet(unet), noise, compiler_args=_UNET_ARGS)
    decoder = tracer.compile("vae_decoder", vae.decoder, latents)
    post_quant = tracer.compile("vae_post_quant_conv", vae.post_quant_conv, latents)
    pipeline.text_encoder = _CompiledTextEncoder(text_encoder, text)
    pipeline.unet = _CompiledUNet(denoiser, unet)
    vae.decoder = _CompiledPart(decoder)
    vae.post_quant_conv = _CompiledPart(post_quant)


def _load(model: str, model_dir: Path) -> Any:
    index: dict[str, Any] = json.loads((model_dir / "model_index.json").read_text(encoding="utf-8"))
    if index.get("_class_name") != _PIPELINE:
        raise PainterConfigError(
            f"model {model!r} is a {index.get('_class_name')}; only {_PIPELINE} (Stable Diffusion 1 and 2) "
            "is compiled here, choose such a model"
        )
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        model_dir, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float32
    )
    return pipeline
