"""What a stack file says of a service: one model class an app.

Keys are written in camelCase in a stack file (`maxModelLen`) and read in snake_case here. Field descriptions
are the user manual; docs/configuration.md is made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator
from pydantic.alias_generators import to_camel

from serve_apps.llm.args import DType, EngineName

DataPlane = Literal["default", "throughput", "haproxy"]


class ConfigModel(BaseModel):
    """Unknown keys are errors, and so are Python names of keys: a stack file has one spelling."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, strict=True)


class Replicas(ConfigModel):
    """How many replicas of the model run; between the bounds Ray Serve follows the load."""

    min: PositiveInt = Field(default=1, description="Replicas that always run.")
    max: PositiveInt = Field(default=1, description="Replicas that may run under load.")

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(
                f"min {self.min} is above max {self.max}; raise max to {self.min} or lower min to {self.max}"
            )
        return self


class PodSize(ConfigModel):
    """What one pod asks for."""

    cpus: Annotated[float, Field(gt=0, le=192, strict=False)] = Field(description="CPU cores.")
    memory_gib: Annotated[float, Field(gt=0, le=2048, strict=False)] = Field(description="Memory, GiB.")


class Service(ConfigModel):
    """What every service has, whichever app it runs."""

    accelerator: Literal["neuron", "nvidia", "cpu"] = Field(
        description="What the replicas compute on. `neuron` adds the taint toleration, the node selector and "
        "NeuronCores; `nvidia` one GPU a replica; `cpu` nothing, so that any cluster will do."
    )
    instance_type: str | None = Field(
        default=None,
        description="EC2 instance type of the workers. Required with `accelerator: neuron`, where a worker "
        "pod takes a whole node; otherwise `worker` says the size of a pod.",
    )
    image: str = Field(
        min_length=1,
        description="Container image with Ray, the app's packages and, unless `codeUrl` is set, the app's "
        "code. It must have `python`, `bash` and `wget`. Pin it by tag or digest.",
    )
    code_url: str | None = Field(
        default=None,
        pattern=r"^(s3|https)://[^\s]+\.zip$",
        description="Zip with the app's code (one top folder, which Ray strips). Without it the code is "
        "the image's, or with `app: llm` on aws this checkout's.",
    )
    replicas: Replicas = Field(default_factory=Replicas, description="Bounds of the replica count.")
    head: PodSize = Field(
        default_factory=lambda: PodSize.model_validate({"cpus": 1, "memoryGib": 2}),
        description="Size of the Ray head pod, which runs no replicas.",
    )
    worker: PodSize = Field(
        default_factory=lambda: PodSize.model_validate({"cpus": 2, "memoryGib": 4}),
        description="Size of a Ray worker pod; not used with `accelerator: neuron`.",
    )
    data_plane: DataPlane = Field(
        default="default",
        description="How requests travel inside Ray Serve. `default`: Serve's proxy, and user code in a "
        "thread of its own. `throughput`: gRPC between deployments, and user code on the replica's event "
        "loop. `haproxy`: the same, and HAProxy in front. See [Benchmarks](benchmarks.md).",
    )
    start_timeout_seconds: int = Field(
        default=3600,
        ge=60,
        description="How long `pulumi up` waits for a release to answer: node start, image pull, model "
        "download and compile together.",
    )

    @field_validator("image")
    @classmethod
    def _image_is_pinned(cls, image: str) -> str:
        last = image.rsplit("/", 1)[-1]
        if "@" not in last and (":" not in last or last.endswith(":latest")):
            raise ValueError(f"image {image!r} is not pinned; name a tag other than latest, or a digest")
        return image

    @model_validator(mode="after")
    def _neuron_names_its_instance_type(self) -> Service:
        if self.accelerator == "neuron" and self.instance_type is None:
            raise ValueError("accelerator neuron needs instanceType, for example inf2.8xlarge")
        if self.accelerator != "neuron" and self.instance_type is not None:
            raise ValueError(
                f"instanceType {self.instance_type!r} has no effect with accelerator {self.accelerator!r}; "
                "remove it and say the pod's size under worker"
            )
        return self


class LlmService(Service):
    """A chat model behind the OpenAI API."""

    app: Literal["llm"] = Field(description="Chooses this kind of service.")
    model: str = Field(
        min_length=1,
        description="Hugging Face Hub id, a directory in the image, or `package:NAME` for weights that an "
        "installed Python package ships.",
    )
    served_name: str | None = Field(
        default=None, min_length=1, description="Name clients send as `model`; the service's name if unset."
    )
    engine: EngineName | None = Field(
        default=None,
        description="What computes the tokens: `transformers-neuronx` on neuron, `torch` elsewhere.",
    )
    dtype: DType = Field(default="bfloat16", description="Type of weights, activations and KV cache.")
    tensor_parallel: PositiveInt = Field(default=1, description="NeuronCores a replica is spread over.")
    slots: int = Field(default=8, ge=1, le=256, description="Requests decoded together in a replica.")
    max_model_len: int = Field(default=2048, ge=16, description="Prompt and answer together, tokens.")
    max_queue: int = Field(
        default=64, ge=0, description="Requests that may wait for a slot in a replica; one more gets 429."
    )
    request_timeout_seconds: int = Field(
        default=300, ge=1, le=3600, description="Longest life of a request, waiting included."
    )
    stream_interval_milliseconds: int = Field(
        default=50,
        ge=0,
        le=1000,
        description="Shortest time between two pieces of a streamed answer; what comes in between travels "
        "together, and the first piece never waits. 0: every token by itself.",
    )
    cpus_per_replica: Annotated[float, Field(gt=0, strict=False)] = Field(
        default=1.0, description="CPU cores that Ray reserves for a replica of the engine."
    )
    auth: Literal["api-keys", "none"] = Field(
        default="api-keys",
        description="`api-keys`: a Bearer key is required: the stack's `apiKeys`, or the one drawn for it. "
        "`none`: anybody who reaches the service may use it.",
    )
    gated: bool | None = Field(
        default=None,
        description="Whether the Hub asks for a token. Unset: looked up in a list of known gated models.",
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
    def _tensor_parallel_only_on_neuron(self) -> LlmService:
        if self.accelerator != "neuron" and self.tensor_parallel != 1:
            raise ValueError(
                f"tensorParallel {self.tensor_parallel} counts NeuronCores and must be 1 on "
                f"accelerator {self.accelerator!r}"
            )
        return self

    @model_validator(mode="after")
    def _replica_fits_worker(self) -> LlmService:
        if self.accelerator != "neuron" and self.cpus_per_replica >= self.worker.cpus:
            raise ValueError(
                f"cpusPerReplica {self.cpus_per_replica:g} leaves nothing of worker.cpus "
                f"{self.worker.cpus:g} for the API; raise worker.cpus or lower cpusPerReplica"
            )
        return self


class BringYourOwnService(Service):
    """Any Ray Serve application by its import path, in the same machinery."""

    app: Literal["bring-your-own"] = Field(description="Chooses this kind of service.")
    import_path: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`package.module:name` of a Serve application or of a builder that returns one.",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments for the builder.")
    deployments: list[dict[str, Any]] = Field(
        default_factory=list[dict[str, Any]],
        description="Ray Serve deployment settings, as in a Serve config file; unknown keys are refused.",
    )


AnyService = Annotated[LlmService | BringYourOwnService, Field(discriminator="app")]
