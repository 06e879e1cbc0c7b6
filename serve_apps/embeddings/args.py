"""Arguments of the `embeddings` app; plain pydantic, importable without Ray or torch."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from serve_apps.model_args import ModelArgs


class EmbeddingsArgs(ModelArgs):
    """One embedding model behind the OpenAI API. Field descriptions are the user manual."""

    model: str = Field(
        min_length=1,
        description="A Hugging Face Hub id, a local directory, `s3://BUCKET/PREFIX`, or `package:NAME` for "
        "weights that an installed Python package ships.",
    )
    neuron_cores: PositiveInt = Field(default=1, description="NeuronCores a replica spreads a batch over.")
    max_input_tokens: int = Field(default=256, ge=8, le=8192, description="Longest text, tokens.")
    max_batch: int = Field(default=16, ge=1, le=256, description="Texts that are computed together.")
    max_queue: int = Field(default=64, ge=0, description="Requests that may wait in a replica.")
    request_timeout_s: float = Field(default=60.0, gt=0, description="Longest life of a request, seconds.")
