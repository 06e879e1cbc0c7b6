"""What a stack file says of the AWS platform, `target: aws`.

Versions that this project has no source for are keys here, not guesses. An empty one is looked up at preview
and printed while `environment: dev`, and refused while `environment: prod`, where a look-up that changes over
night must not change a cluster.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from infra.cluster_config import AddOns, Cluster
from infra.config_model import ConfigModel, Digits
from infra.instances import NEURON_INSTANCES, has_arm_cores
from infra.monitoring_config import Alarms
from infra.network_config import Network

# EKS wants at least two zones; a third one costs a NAT gateway and buys little.
_MIN_ZONES, _MAX_ZONES = 2, 3
# The pool of ordinary instances that every stack has, for Ray heads and the chat page.
GENERAL_POOL = "general"


class NodePool(ConfigModel):
    """A Karpenter node pool of Neuron instances."""

    name: str = Field(
        pattern=r"^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$",
        description="Name of the pool.",
        examples=["inf2"],
        json_schema_extra={"form": "at most 42 lower case letters, digits and hyphens, first a letter"},
    )
    instance_types: list[str] = Field(
        min_length=1, description="Neuron instance types it may start.", examples=[["inf2.8xlarge"]]
    )
    capacity_types: list[Literal["reserved", "on-demand", "spot"]] = Field(
        default_factory=lambda: ["on-demand"],
        min_length=1,
        description="Kinds of capacity: reserved is used first, then spot, then on-demand. Spot needs, once "
        "in an account, `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`.",
    )
    capacity_reservations: list[str] = Field(
        default_factory=list[str],
        description="Ids of capacity reservations, for `reserved`.",
        examples=[["cr-0123456789abcdef0"]],
    )
    max_neuron_devices: PositiveInt = Field(
        description="Neuron devices (of two NeuronCores each) that the pool may hold at a time.",
        examples=[3],
    )
    zones: list[str] | None = Field(
        default=None,
        description="Zones of the pool, among the stack's; all of them if unset.",
        examples=[["us-west-2a"]],
    )
    disk_gib: int = Field(default=300, ge=50, le=16384, description="Size of a node's gp3 root disk, GiB.")
    disk_throughput_mib_s: int = Field(
        default=500, ge=125, le=1000, description="Throughput of the root disk; image pulls depend on it."
    )

    @field_validator("name")
    @classmethod
    def _name_is_not_the_general_pools(cls, name: str) -> str:
        if name == GENERAL_POOL:
            raise ValueError(f"{name!r} is the pool of Ray heads and the chat page; choose another name")
        return name

    @field_validator("instance_types")
    @classmethod
    def _instance_types_are_known(cls, instance_types: list[str]) -> list[str]:
        for instance_type in instance_types:
            if instance_type not in NEURON_INSTANCES:
                raise ValueError(
                    f"{instance_type!r} is not a Neuron instance type known here; choose one of "
                    f"{', '.join(NEURON_INSTANCES)}"
                )
        return instance_types

    @model_validator(mode="after")
    def _every_instance_type_fits_the_limit(self) -> NodePool:
        for instance_type in self.instance_types:
            devices = NEURON_INSTANCES[instance_type].devices
            if devices > self.max_neuron_devices:
                raise ValueError(
                    f"maxNeuronDevices {self.max_neuron_devices} is below the {devices} devices of "
                    f"{instance_type}, which could never start; raise it to {devices} or remove the type"
                )
        return self

    @model_validator(mode="after")
    def _reserved_names_its_reservations(self) -> NodePool:
        if ("reserved" in self.capacity_types) != bool(self.capacity_reservations):
            raise ValueError(
                f"capacityTypes {self.capacity_types} and capacityReservations "
                f"{self.capacity_reservations} do not fit together; name reservations (cr-...) and "
                "'reserved', or neither"
            )
        for reservation in self.capacity_reservations:
            if not re.fullmatch(r"cr-[0-9a-z]+", reservation):
                raise ValueError(
                    f"{reservation!r} in capacityReservations is not the id of a capacity reservation; write "
                    "one like cr-0123456789abcdef0"
                )
        return self


class Karpenter(ConfigModel):
    """Nodes on demand."""

    ami_date: Digits | None = Field(
        default=None,
        pattern=r"^\d{8}$",
        examples=["20260714"],
        json_schema_extra={"form": "a date of eight digits"},
        description="Date of the AL2023 node image (YYYYMMDD), pinned together with the Neuron image of the "
        "services, whose runtime needs a matching driver. A new date replaces the nodes one by one, serving "
        "ones too, an hour after each got its notice; raise it before the image. Empty: looked up in dev.",
    )
    general_instance_types: list[str] = Field(
        default_factory=lambda: ["m6i.large", "m6i.xlarge", "m6i.2xlarge"],
        min_length=1,
        examples=[["m6i.large", "m6i.xlarge"]],
        description="Instance types of the pool for Ray heads and the chat page, x86.",
    )
    general_max_cpus: PositiveInt = Field(default=32, description="CPU cores that pool may hold at a time.")

    @field_validator("general_instance_types")
    @classmethod
    def _general_instance_types_are_x86(cls, instance_types: list[str]) -> list[str]:
        for instance_type in instance_types:
            if has_arm_cores(instance_type):
                raise ValueError(
                    f"{instance_type!r} has Arm cores and the images are x86; choose one like m6i.large"
                )
        return instance_types


class Artifacts(ConfigModel):
    """The stack's bucket and image repository."""

    model_bucket: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        examples=["my-models"],
        json_schema_extra={
            "form": "the name of a bucket, 3 to 63 lower case letters, digits, dots and hyphens"
        },
        description="A bucket of yours with model weights; read, never changed or deleted.",
    )


class Ingress(ConfigModel):
    """An internal load balancer in front of each `llm` service; off by default: port-forward needs none."""

    enabled: bool = Field(
        default=False,
        description="Whether the AWS Load Balancer Controller is installed. Only services with API keys can "
        "be reached through it.",
    )
    certificate_arn: str | None = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+$",
        examples=["arn:aws:acm:us-west-2:123456789012:certificate/0a1b2c3d"],
        json_schema_extra={"form": "the ARN of an ACM certificate"},
        description="ACM certificate of the listener; TLS is not optional.",
    )
    host: str | None = Field(
        default=None,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+[a-z]{2,}$",
        examples=["models.example.com"],
        json_schema_extra={"form": "a domain in lower case"},
        description="Domain of the services: `chat` is served at chat.HOST, a name that you point (CNAME) to "
        "the load balancer that the stack prints.",
    )

    @model_validator(mode="after")
    def _tls_is_not_optional(self) -> Ingress:
        if self.enabled and (self.certificate_arn is None or self.host is None):
            raise ValueError(
                "enabled is true, and there is no ingress without TLS; add certificateArn and host"
            )
        return self


class Aws(ConfigModel):
    """Everything of `target: aws`."""

    environment: Literal["dev", "prod"] = Field(
        default="dev", description="`prod` refuses versions that are looked up at preview."
    )
    name: str = Field(
        default="neuron-serve",
        pattern=r"^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$",
        json_schema_extra={"form": "at most 32 lower case letters, digits and hyphens, first a letter"},
        description="Name of the EKS cluster, and the value of Karpenter's discovery tag.",
    )
    zones: list[str] = Field(
        description="Availability zones, pinned here because a looked-up list would replace subnets under "
        "a live cluster. They must offer the pools' instance types. A zone's place in the list chooses its "
        "addresses: append, never reorder.",
        examples=[["us-west-2a", "us-west-2b"]],
    )
    network: Network = Field(default_factory=lambda: Network.model_validate({}), description="The VPC.")
    cluster: Cluster = Field(description="The EKS cluster.")
    karpenter: Karpenter = Field(
        default_factory=lambda: Karpenter.model_validate({}), description="Nodes on demand."
    )
    node_pools: list[NodePool] = Field(min_length=1, description="Pools of Neuron instances.")
    artifacts: Artifacts = Field(
        default_factory=lambda: Artifacts.model_validate({}), description="Bucket and image repository."
    )
    ingress: Ingress = Field(
        default_factory=lambda: Ingress.model_validate({}),
        description="Load balancer, off by default.",
        examples=[{"enabled": False}],
    )
    alarms: Alarms = Field(
        default_factory=lambda: Alarms.model_validate({}), description="CloudWatch alarms, off by default."
    )
    prices: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict[str, float],
        description="Prices an hour, USD, by what is bought: an instance type, an ElastiCache node type, "
        "eks-cluster, nat-gateway, interface-endpoint (a zone) or load-balancer. They go before the list "
        "prices that this project has a source for, and fill its gaps; for `target: aws` only, they change "
        "nothing but `costPerHour`.",
        examples=[{"nat-gateway": 0.05}],
    )

    @field_validator("zones")
    @classmethod
    def _zones_are_two_or_three_of_one_region(cls, zones: list[str]) -> list[str]:
        if not _MIN_ZONES <= len(set(zones)) == len(zones) <= _MAX_ZONES:
            raise ValueError(
                f"{zones} does not name {_MIN_ZONES} or {_MAX_ZONES} different zones; name {_MIN_ZONES} or "
                f"{_MAX_ZONES}, each once"
            )
        for zone in zones:
            if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", zone):
                raise ValueError(f"{zone!r} is not an availability zone; write one like us-west-2a")
        if len({zone[:-1] for zone in zones}) > 1:
            raise ValueError(f"{zones} are not in one region; name zones of the one that aws:region says")
        return zones

    @model_validator(mode="after")
    def _certificate_is_of_the_stacks_region(self) -> Aws:
        if self.ingress.certificate_arn is None:
            return self
        region, wanted = self.ingress.certificate_arn.split(":")[3], self.zones[0][:-1]
        if region != wanted:
            raise ValueError(
                f"ingress.certificateArn is of region {region}, and a load balancer in {wanted} cannot use "
                f"it; request a certificate in {wanted}"
            )
        return self

    @model_validator(mode="after")
    def _pools_use_the_stacks_zones(self) -> Aws:
        names = [pool.name for pool in self.node_pools]
        for first, second in itertools.combinations(names, 2):
            if first == second:
                raise ValueError(f"two node pools are called {first!r}; give each its own name")
        for pool in self.node_pools:
            for zone in pool.zones or []:
                if zone not in self.zones:
                    raise ValueError(
                        f"node pool {pool.name!r}: zone {zone!r} is not one of the stack's zones "
                        f"{self.zones}; add it there or remove it here"
                    )
        return self

    @model_validator(mode="after")
    def _production_pins_everything(self) -> Aws:
        if self.environment != "prod":
            return self
        pins = {
            **{f"cluster.addOns.{_key(AddOns, name)}": pin for name, pin in self.cluster.add_ons},
            "cluster.systemNodes.releaseVersion": self.cluster.system_nodes.release_version,
            "karpenter.amiDate": self.karpenter.ami_date,
        }
        if empty := [key for key, pin in pins.items() if pin is None]:
            raise ValueError(
                f"environment 'prod' looks nothing up, and these versions are empty: {', '.join(empty)}; "
                "preview once with environment 'dev', which prints what it finds, and write that here"
            )
        return self

    @property
    def region(self) -> str:
        """The region of the zones."""
        return self.zones[0][:-1]


def _key(model: type[ConfigModel], field: str) -> str:
    """A field's name as it stands in a stack file."""
    return model.model_fields[field].alias or field
