"""What services have in common, whichever app they run; the apps' own keys are in `infra.service_config`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from infra.config_model import ConfigModel
from infra.grace_periods import LONGEST_REQUEST_S

DataPlane = Literal["default", "throughput", "haproxy"]


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

    cpus: float = Field(gt=0, le=192, description="CPU cores.", examples=[2])
    memory_gib: float = Field(gt=0, le=2048, description="Memory, GiB.", examples=[4])


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
        examples=["inf2.8xlarge"],
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        description="Container image with Ray, the app's packages and, unless `codeUrl` is set, the app's "
        "code. It must have `python`, `bash` and `wget`. Pin it by tag or digest. Unset, with `accelerator: "
        "neuron` on aws: the stack builds images/neuron.Dockerfile with Docker and pushes it.",
        examples=["neuron-serve/cpu:0.1.0"],
    )
    code_url: str | None = Field(
        default=None,
        pattern=r"^(s3|https)://[^\s]+\.zip$",
        examples=["s3://my-code/app.zip"],
        json_schema_extra={"form": "an s3:// or https:// address of a .zip file"},
        description="Zip with the app's code (one top folder, which Ray strips). Without it the code is "
        "the image's, or on aws, unless the app is your own, this checkout's.",
    )
    replicas: Replicas = Field(default_factory=Replicas, description="Bounds of the replica count.")
    ha: bool = Field(
        default=False,
        description="Whether the service must survive the loss of a node: its replicas then sit on two nodes "
        "or more, and a stack file that cannot give it that is refused.",
    )
    upgrade: Literal["new-cluster", "recreate"] = Field(
        default="new-cluster",
        description="What a change of image or pod shape does. `new-cluster`: a second Ray cluster starts "
        "beside the first and takes over, without an interruption and with twice the devices. `recreate`: "
        "the first one goes before the second one comes, so the service is away for a model load, and no "
        "more devices are needed.",
    )
    head: PodSize = Field(
        default_factory=lambda: PodSize.model_validate({"cpus": 1, "memoryGib": 2}),
        description="Size of the Ray head pod, which runs no replicas.",
    )
    worker: PodSize = Field(
        default_factory=lambda: PodSize.model_validate({"cpus": 2, "memoryGib": 4}),
        description="Size of a Ray worker pod; not used with `accelerator: neuron`.",
    )
    data_plane: DataPlane | None = Field(
        default=None,
        description="How requests travel inside Ray Serve. `default`: Serve's proxy, and user code in a "
        "thread of its own. `throughput`: gRPC between deployments, and user code on the replica's event "
        "loop. `haproxy`: the same, and HAProxy in front. Unset: `throughput`, but `default` for an app of "
        "your own, whose handlers may block. See [Benchmarks](benchmarks.md).",
    )
    start_timeout_seconds: int = Field(
        default=3600,
        ge=60,
        description="How long `pulumi up` waits for a release to answer: node start, image pull, model "
        "download and compile together.",
    )

    @field_validator("image")
    @classmethod
    def _image_is_pinned(cls, image: str | None) -> str | None:
        if image is None:
            return None
        last = image.rsplit("/", 1)[-1]
        if "@" not in last and (":" not in last or last.endswith(":latest")):
            raise ValueError(f"{image!r} is not pinned; name a tag other than latest, or a digest")
        return image

    @model_validator(mode="after")
    def _neuron_names_its_instance_type(self) -> Service:
        if self.accelerator == "neuron" and self.instance_type is None:
            raise ValueError("accelerator 'neuron' needs instanceType; add it, like 'inf2.8xlarge'")
        if self.accelerator != "neuron" and self.instance_type is not None:
            raise ValueError(
                f"instanceType {self.instance_type!r} has no effect with accelerator {self.accelerator!r}; "
                "remove it and say the pod's size under worker"
            )
        return self


class ModelService(Service):
    """What every service has that runs a model with an app of this project."""

    app: str
    model: str = Field(
        min_length=1,
        description="Hugging Face Hub id, a directory in the image, `s3://BUCKET/PREFIX` (the stack's own "
        "bucket or its `modelBucket`), or `package:NAME` for weights that an installed Python package ships.",
        examples=["mistralai/Mistral-7B-Instruct-v0.2"],
    )
    served_name: str | None = Field(
        default=None,
        min_length=1,
        description="Name clients send as `model`; the service's name if unset.",
        examples=["mistral-7b"],
    )
    max_queue: int = Field(
        default=64, ge=0, description="Requests that may wait in a replica; one more gets 503."
    )
    request_timeout_seconds: int = Field(
        default=300,
        ge=1,
        le=LONGEST_REQUEST_S,
        description="Longest life of a request, waiting included. A worker that has to go waits for it, and "
        "a node for its workers.",
    )
    cpus_per_replica: float = Field(
        default=1.0, gt=0, description="CPU cores that Ray reserves for a replica of the engine."
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

    @property
    def package(self) -> str:
        """The package of `serve_apps` with the app."""
        return self.app.replace("-", "_")

    @property
    def together(self) -> int:
        """Requests that a replica works on at the same time."""
        raise NotImplementedError

    @property
    def cores(self) -> tuple[str, int]:
        """The key that says how many NeuronCores a replica takes, and how many."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _cores_only_on_neuron(self) -> ModelService:
        key, cores = self.cores
        if self.accelerator != "neuron" and cores != 1:
            raise ValueError(
                f"{key} {cores} counts NeuronCores, and accelerator {self.accelerator!r} has none; set it "
                "to 1"
            )
        return self

    @model_validator(mode="after")
    def _replica_fits_worker(self) -> ModelService:
        if self.accelerator != "neuron" and self.cpus_per_replica >= self.worker.cpus:
            raise ValueError(
                f"cpusPerReplica {self.cpus_per_replica:g} leaves nothing of worker.cpus "
                f"{self.worker.cpus:g} for the API; raise worker.cpus or lower cpusPerReplica"
            )
        return self


class TracedService(ModelService):
    """A model that is compiled with torch-neuronx, or traced elsewhere, for fixed shapes."""

    neuron_cores: PositiveInt = Field(
        default=1, description="NeuronCores a replica uses; a batch is spread over them where they divide it."
    )

    @property
    def cores(self) -> tuple[str, int]:
        """See `ModelService`."""
        return "neuronCores", self.neuron_cores
