"""Arguments of the `stable-diffusion` app; plain pydantic, importable without Ray or torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from serve_apps.model_args import ModelArgs

# Three halvings in the UNet after the eightfold one of the VAE.
SIZE_STEP = 64
ImageSize = Annotated[int, Field(ge=SIZE_STEP, le=1024, multiple_of=SIZE_STEP)]


class StableDiffusionArgs(ModelArgs):
    """One Stable Diffusion model. Field descriptions are the user manual."""

    model: str = Field(
        min_length=1, description="A Hugging Face Hub id, or a local directory with a diffusers pipeline."
    )
    neuron_cores: PositiveInt = Field(
        default=1,
        description="NeuronCores a replica uses. Of 2, each computes a row of the guidance pair.",
    )
    sizes: list[ImageSize] = Field(
        default=[512], min_length=1, description="Image sizes that are compiled; the first is the default."
    )
    max_queue: int = Field(default=8, ge=0, description="Requests that may wait in a replica.")
    request_timeout_s: float = Field(default=300.0, gt=0, description="Longest life of a request, seconds.")
