"""Arguments of the `llm` app: what a stack's `services:` entry becomes, and what `build_app` accepts.

Plain pydantic, importable without Ray or torch, so that the Pulumi program can build and check it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from serve_apps.model_args import ModelArgs


def _refuse_vllm(engine: object) -> object:
    """vLLM on Neuron would own its scheduler and cache: an `Engine` beside `SlotEngine`, not a runner."""
    if engine == "vllm":
        raise ValueError(
            "engine 'vllm' (vLLM on Neuron, the successor of transformers-neuronx) is not part of this "
            "version; use transformers-neuronx on neuron and torch elsewhere, or leave engine out"
        )
    return engine


EngineName = Annotated[Literal["torch", "transformers-neuronx"], BeforeValidator(_refuse_vllm)]
Sampling = Literal["host", "device"]
DType = Literal["float32", "bfloat16", "float16"]


class LlmArgs(ModelArgs):
    """One model behind the OpenAI API. Field descriptions are the user manual."""

    model: str = Field(
        min_length=1,
        description="A Hugging Face Hub id, a local directory, `s3://BUCKET/PREFIX`, or `package:NAME` for "
        "weights that an installed Python package ships as GGUF.",
    )
    engine: EngineName = Field(default="torch", description="What computes the tokens.")
    dtype: DType = Field(default="bfloat16", description="Type of weights, activations and KV cache.")
    tensor_parallel: PositiveInt = Field(default=1, description="NeuronCores a replica is spread over.")
    slots: int = Field(default=8, ge=1, le=256, description="Requests decoded together in a replica.")
    max_model_len: int = Field(default=2048, ge=16, description="Prompt and answer together, tokens.")
    prefill_tokens: int = Field(
        default=512,
        ge=16,
        description="Prompt tokens that one step may prefill together; bounds the pause a new request "
        "causes in running streams. A longer prompt takes a step of its own.",
    )
    sampling: Sampling = Field(
        default="host",
        description="Where tokens are chosen. `host`: everything the API offers. `device`, with "
        "transformers-neuronx only: in the compiled graph, without `seed` and with at most 64 candidates.",
    )
    max_queue: int = Field(
        default=64, ge=0, description="Requests that may wait for a slot in a replica; one more gets 503."
    )
    request_timeout_s: float = Field(
        default=600.0, gt=0, description="Longest life of a request, waiting included, seconds."
    )
    step_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Longest time of one prefill or decode step, seconds; a replica whose step takes longer "
        "hangs and is replaced.",
    )
    max_body_bytes: int | None = Field(
        default=None,
        ge=1024,
        description="Longest request body, bytes; a longer one gets 413. By default 1 MiB, and 64 bytes for "
        "each token of max_model_len.",
    )
    stream_interval_ms: int = Field(
        default=50,
        ge=0,
        le=1000,
        description="Shortest time between two pieces of a streamed answer, milliseconds; what comes in "
        "between travels together, and the first piece never waits. 0: every token by itself.",
    )

    @model_validator(mode="after")
    def _engine_matches_device(self) -> LlmArgs:
        if (self.engine == "transformers-neuronx") != (self.device == "neuron"):
            raise ValueError(
                f"engine {self.engine!r} does not run on device {self.device!r}: "
                "use transformers-neuronx with neuron, torch with cpu or cuda"
            )
        return self

    @model_validator(mode="after")
    def _only_a_compiled_graph_samples(self) -> LlmArgs:
        if self.sampling == "device" and self.engine != "transformers-neuronx":
            raise ValueError(f"sampling 'device' is not possible with engine {self.engine!r}; set it to host")
        return self
