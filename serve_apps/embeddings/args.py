"""Arguments of the `embeddings` app; plain pydantic, importable without Ray or torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from serve_apps.environment import API_KEYS_FILE_ENV


class EmbeddingsArgs(BaseModel):
    """One embedding model behind the OpenAI API. Field descriptions are the user manual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1,
        description="A Hugging Face Hub id, a local directory, `s3://BUCKET/PREFIX`, or `package:NAME` for "
        "weights that an installed Python package ships.",
    )
    served_name: str = Field(min_length=1, description="The name clients send as `model`.")
    device: Literal["cpu", "cuda", "neuron"] = Field(
        default="cpu", description="Where the model computes: a CPU, an NVIDIA GPU, or NeuronCores."
    )
    neuron_cores: PositiveInt = Field(default=1, description="NeuronCores a replica spreads a batch over.")
    max_input_tokens: int = Field(default=256, ge=8, le=8192, description="Longest text, tokens.")
    max_batch: int = Field(default=16, ge=1, le=256, description="Texts that are computed together.")
    max_queue: int = Field(default=64, ge=0, description="Requests that may wait in a replica.")
    request_timeout_s: float = Field(default=60.0, gt=0, description="Longest life of a request, seconds.")
    auth: Literal["api-keys", "none"] = Field(
        default="api-keys",
        description=f"`api-keys`: a Bearer key from the file named by {API_KEYS_FILE_ENV} is required. "
        "`none`: anybody who reaches the port may use the model.",
    )
