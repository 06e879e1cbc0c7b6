"""What a stack file says of the EKS cluster, its add-ons and the nodes of its controllers."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from infra.config_model import ConfigModel, Digits
from infra.instances import has_arm_cores
from infra.network_config import private_block

_ANYWHERE = "0.0.0.0/0"
# A build of an EKS add-on.
_Build = Annotated[
    str,
    Field(
        pattern=r"^v\d+\.\d+\.\d+-eksbuild\.\d+$",
        examples=["v1.13.2-eksbuild.11"],
        json_schema_extra={"form": "a build of the add-on"},
    ),
]


class SystemNodes(ConfigModel):
    """The managed node group for controllers: Karpenter, KubeRay, coredns."""

    instance_type: str = Field(default="m6i.large", description="EC2 instance type, x86.")
    count: int = Field(
        default=2,
        ge=2,
        le=10,
        description="Nodes; nothing scales them. Two survive the loss of a zone, and Karpenter's two pods "
        "refuse to share one.",
    )
    release_version: str | None = Field(
        default=None,
        pattern=r"^\d+\.\d+\.\d+-\d{8}$",
        examples=["1.35.6-20260714"],
        json_schema_extra={"form": "a version of Kubernetes and a date of eight digits"},
        description="Release of the AL2023 node image, like 1.35.6-20260714. Empty: looked up in dev.",
    )

    @field_validator("instance_type")
    @classmethod
    def _is_x86(cls, instance_type: str) -> str:
        if has_arm_cores(instance_type):
            raise ValueError(
                f"{instance_type!r} has Arm cores and the node image is x86; choose one like m6i.large"
            )
        return instance_type


class AddOns(ConfigModel):
    """Builds of the EKS add-ons. Empty: the default build for the cluster's version, looked up in dev."""

    vpc_cni: _Build | None = Field(default=None, description="Build of vpc-cni.")
    kube_proxy: _Build | None = Field(default=None, description="Build of kube-proxy.")
    pod_identity_agent: _Build | None = Field(default=None, description="Build of eks-pod-identity-agent.")
    coredns: _Build | None = Field(default=None, description="Build of coredns.")
    ebs_csi: _Build | None = Field(default=None, description="Build of aws-ebs-csi-driver.")
    metrics_server: _Build | None = Field(default=None, description="Build of metrics-server.")


class Cluster(ConfigModel):
    """The EKS cluster."""

    version: Digits = Field(
        pattern=r"^\d+\.\d+$",
        description="Kubernetes version, like 1.35.",
        examples=["1.35"],
        json_schema_extra={"form": "a major and a minor version"},
    )
    admins: list[str] = Field(
        default_factory=list[str],
        description="ARNs of IAM roles or users that administrate the cluster, besides its creator, who "
        "does already.",
        examples=[["arn:aws:iam::123456789012:role/platform-admin"]],
    )
    public_access_cidrs: list[str] = Field(
        default_factory=list[str],
        description="Ranges that may reach the API server from the internet; none leaves it private.",
        examples=[["203.0.113.0/24"]],
    )
    allow_public_access_from_anywhere: bool = Field(
        default=False, description=f"Says that {_ANYWHERE} in publicAccessCidrs is meant."
    )
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400] = Field(
        default=30, description="How long control-plane logs are kept."
    )
    system_nodes: SystemNodes = Field(
        default_factory=lambda: SystemNodes.model_validate({}), description="Nodes of the controllers."
    )
    add_ons: AddOns = Field(
        default_factory=lambda: AddOns.model_validate({}), description="Builds of the EKS add-ons."
    )

    @field_validator("admins")
    @classmethod
    def _admins_are_arns(cls, admins: list[str]) -> list[str]:
        for arn in admins:
            if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/.+", arn):
                raise ValueError(
                    f"{arn!r} is not the ARN of an IAM role or user; write one like "
                    "arn:aws:iam::123456789012:role/platform-admin"
                )
        return admins

    @field_validator("public_access_cidrs")
    @classmethod
    def _are_networks(cls, cidrs: list[str]) -> list[str]:
        for cidr in cidrs:
            try:
                network = ipaddress.IPv4Network(cidr)
            except ValueError as error:
                raise ValueError(
                    f"{cidr!r} is not an IPv4 network ({error}); write one like 203.0.113.0/24"
                ) from None
            if private_block(network) is not None:
                raise ValueError(
                    f"{cidr!r} is private, and from the internet nobody comes from there; name the public "
                    "address of your network, or none and use the private endpoint"
                )
        return cidrs

    @model_validator(mode="after")
    def _world_is_meant(self) -> Cluster:
        if _ANYWHERE in self.public_access_cidrs and not self.allow_public_access_from_anywhere:
            raise ValueError(
                f"publicAccessCidrs holds {_ANYWHERE}, which opens the API server to the world; name your "
                "ranges, or say allowPublicAccessFromAnywhere: true"
            )
        return self

    @model_validator(mode="after")
    def _nodes_are_of_the_clusters_version(self) -> Cluster:
        release = self.system_nodes.release_version
        if release is not None and not release.startswith(f"{self.version}."):
            raise ValueError(
                f"systemNodes.releaseVersion {release!r} is not for version {self.version!r}; EKS wants "
                "nodes of the cluster's version, so change both together"
            )
        return self
