"""Arguments of the `stable-diffusion` app; plain pydantic, importable without Ray or torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from serve_apps.environment import API_KEYS_FILE_ENV

# Three halvings in the UNet after the eightfold one of the VAE.
SIZE_STEP = 64
ImageSize = Annotated[int, Field(ge=SIZE_STEP, le=1024, multiple_of=SIZE_STEP)]


class StableDiffusionArgs(BaseModel):
    """One Stable Diffusion model. Field descriptions are the user manual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="A Hugging Face Hub id, or a local directory with a diffusers pipeline."
    )
    served_name: str = Field(min_length=1, description="The name clients send as `model`.")
    device: Literal["cpu", "cuda", "neuron"] = Field(
        default="cpu", description="Where the model computes: a CPU, an NVIDIA GPU, or NeuronCores."
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
    auth: Literal["api-keys", "none"] = Field(
        default="api-keys",
        description=f"`api-keys`: a Bearer key from the file named by {API_KEYS_FILE_ENV} is required. "
        "`none`: anybody who reaches the port may use the model.",
    )
