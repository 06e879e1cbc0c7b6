"""A tiny pipeline with random weights, compiled, against diffusers itself."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from serve_apps.artifacts import ArtifactStore
from serve_apps.models import ModelError, resolve_pipeline
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from serve_apps.stable_diffusion.painter import CancelledError, Painter, PainterConfigError
from serve_apps.stable_diffusion.painting import Painting
from serve_apps.tracing import ShapeNotCompiledError

SITE = Path(__file__).parents[1] / "neuron" / "torch_neuronx_site"
CAT = Painting("a cat", size=64, seed=7, steps=3, guidance=7.5)


def arguments(model_dir: Path, **changes: Any) -> StableDiffusionArgs:
    return StableDiffusionArgs(model=str(model_dir), served_name="tiny", **{"sizes": [64, 128], **changes})


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def painter(pipeline_dir: Path) -> Painter:
    return Painter(pipeline_dir, arguments(pipeline_dir))


def plain_diffusers(model_dir: Path, painting: Painting) -> np.ndarray[Any, Any]:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model_dir, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        painting.prompt,
        height=painting.size,
        width=painting.size,
        num_inference_steps=painting.steps,
        guidance_scale=painting.guidance,
        generator=torch.Generator("cpu").manual_seed(painting.seed),
    ).images[0]
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", [64, 128])
def test_an_image_is_that_of_plain_diffusers(painter: Painter, pipeline_dir: Path, size: int) -> None:
    painting = Painting("a red square", size=size, seed=3, steps=4, guidance=5.0)
    image = pixels(painter.paint(painting, Event()))
    assert image.shape == (size, size, 3)
    assert np.abs(image - plain_diffusers(pipeline_dir, painting)).max() <= 1
    assert image.std() > 1


def test_a_seed_gives_the_same_image_again_and_another_seed_another(painter: Painter) -> None:
    first = painter.paint(CAT, Event())
    other = painter.paint(Painting("a cat", size=64, seed=8, steps=3, guidance=7.5), Event())
    assert painter.paint(CAT, Event()) == first != other


def test_prompt_and_guidance_change_the_image(painter: Painter) -> None:
    first = painter.paint(CAT, Event())
    assert painter.paint(Painting("a dog", size=64, seed=7, steps=3, guidance=7.5), Event()) != first
    assert painter.paint(Painting("a cat", size=64, seed=7, steps=3, guidance=2.0), Event()) != first


def test_a_size_that_was_not_compiled_is_refused(painter: Painter) -> None:
    with pytest.raises(ShapeNotCompiledError, match=r"compiled are \[2, 4, 8, 8\].*\[2, 4, 16, 16\]"):
        painter.paint(Painting("a cat", size=192, seed=7, steps=1, guidance=7.5), Event())


def test_a_cancelled_image_stops_after_the_step(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = Event()
    unet = painter._pipeline.unet
    steps: list[int] = []
    original = unet._compiled

    def denoise(*inputs: torch.Tensor) -> torch.Tensor:
        steps.append(len(steps))
        if len(steps) == 2:
            cancelled.set()
        return original(*inputs)

    monkeypatch.setattr(unet, "_compiled", denoise)
    with pytest.raises(CancelledError):
        painter.paint(Painting("a cat", size=64, seed=7, steps=50, guidance=7.5), cancelled)
    assert len(steps) == 2
    with pytest.raises(CancelledError):
        painter.paint(CAT, cancelled)
    assert len(steps) == 2


def test_on_neuron_each_core_computes_a_row_of_the_pair(
    pipeline_dir: Path, tmp_path: Path, painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.delenv("NEURON_RT_VISIBLE_CORES", raising=False)
    monkeypatch.delitem(sys.modules, "torch_neuronx", raising=False)
    args = arguments(pipeline_dir, device="neuron", neuron_cores=2, sizes=[64])
    on_neuron = Painter(pipeline_dir, args, ArtifactStore(tmp_path))
    traced = sys.modules["torch_neuronx"].TRACED
    assert [entry["shapes"] for entry in traced] == [
        [(1, 77)],
        [(1, 4, 8, 8), (1,), (1, 77, 32)],
        [(1, 4, 8, 8)],
        [(1, 4, 8, 8)],
    ]
    assert traced[1]["compiler_args"] == ["--model-type=unet-inference"]
    difference = pixels(on_neuron.paint(CAT, Event())) - pixels(painter.paint(CAT, Event()))
    assert np.abs(difference).max() <= 1


def test_another_kind_of_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(PainterConfigError, match="is a StableDiffusionXLPipeline; only"):
        Painter(tmp_path, arguments(tmp_path))


def test_a_directory_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model_index\.json"):
        resolve_pipeline(str(tmp_path))
