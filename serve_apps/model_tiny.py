"""`tiny:stable-diffusion`: a pipeline with random weights, made on this machine, that any CPU can compute.

It has the parts, the halvings and the interfaces of Stable Diffusion 1, and its pictures are noise. Local
runs and tests paint with it, because the real one is gigabytes that have to be downloaded.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from serve_apps.model_files import ModelError, made_once, model_cache

logger = logging.getLogger(__name__)

PREFIX = "tiny:"
TINY_STABLE_DIFFUSION = "tiny:stable-diffusion"
# Part of the cache key: raise it when what is made below changes.
_REVISION = 1
_SEED = 0
_TEXT_WIDTH = 32
# Longest prompt of Stable Diffusion, tokens.
_PROMPT_TOKENS = 77


def from_tiny(model: str) -> Path:
    """The directory of the pipeline; makes it in the model cache if need be. Raises `ModelError`."""
    if model != TINY_STABLE_DIFFUSION:
        raise ModelError(f"model {model!r}: the only one of its kind is {TINY_STABLE_DIFFUSION!r}")
    try:
        return made_once(model_cache() / f"tiny-stable-diffusion-r{_REVISION}", _make)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"model {model!r}: making it needs the Python package {error.name!r}; "
            "install requirements-local.txt"
        ) from error
    except OSError as error:
        raise ModelError(
            f"model {model!r}: cannot be kept in {model_cache()}: {error}; check its permissions and the disk"
        ) from error


def _make(directory: Path) -> None:
    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    logger.info("making a pipeline with random weights; its pictures are noise")
    tokenizer = _tokenizer(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        pipeline: Any = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=_unet(),
            scheduler=_scheduler(),
            safety_checker=None,  # pyright: ignore[reportArgumentType]
            feature_extractor=None,  # pyright: ignore[reportArgumentType]
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(directory)


def _unet() -> Any:
    """Three halvings. Attention starts below the first, where it has a sixteenth of the work."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        sample_size=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def _vae() -> Any:
    """Eight pixels to a latent, as in the real one."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    # Annotated in the library as if there was one of each.
    blocks: dict[str, Any] = {
        "block_out_channels": (8, 16, 16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(
        **blocks,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=512,
    )


def _text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            hidden_size=_TEXT_WIDTH,
            intermediate_size=_TEXT_WIDTH,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=_PROMPT_TOKENS,
        )
    )


def _scheduler() -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )


def _tokenizer(directory: Path) -> Any:
    """CLIP's, with single letters for a vocabulary."""
    from transformers import CLIPTokenizer

    files = directory / "tokenizer"
    files.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (files / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (files / "merges.txt").write_text("#version: 0.2\n")
    (files / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": _PROMPT_TOKENS})
    )
    return CLIPTokenizer.from_pretrained(files)
