"""What the arguments of all apps with a model share; plain pydantic, importable without Ray or torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_apps.environment import API_KEYS_FILE_ENV

Auth = Literal["api-keys", "none"]


class ModelArgs(BaseModel):
    """One model behind an API. Field descriptions are the user manual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    served_name: str = Field(min_length=1, description="The name clients send as `model`.")
    device: Literal["cpu", "cuda", "neuron"] = Field(
        default="cpu", description="Where the model computes: a CPU, an NVIDIA GPU, or NeuronCores."
    )
    auth: Auth = Field(
        default="api-keys",
        description=f"`api-keys`: a Bearer key from the file named by {API_KEYS_FILE_ENV} is required. "
        "`none`: anybody who reaches the port may use the model.",
    )
