"""What a stack file says of the VPC."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, field_validator, model_validator

from infra.config_model import ConfigModel

# What nodes and their pods call all the time: image pulls, credentials, interfaces and volumes, logs.
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "sts", "ec2", "logs")
# AWS allows /16 to /28; a /21 still holds private subnets of 507 addresses in three zones.
_VPC_PREFIXES = (16, 21)
# Private blocks, and which of them a VPC may hold beside each other: AWS lets a second range come from the
# block of the first one or from 100.64.0.0/10
# (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html#add-cidr-block-restrictions).
_SHARED_BLOCK = ipaddress.IPv4Network("100.64.0.0/10")
_PRIVATE_BLOCKS = (
    ipaddress.IPv4Network("10.0.0.0/8"),
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    _SHARED_BLOCK,
)


class Network(ConfigModel):
    """The VPC."""

    cidr: str = Field(default="10.0.0.0/16", description="Primary IPv4 range of the VPC, /16 to /21.")
    pod_cidr: str | None = Field(
        default=None,
        description="Secondary range for nodes and pods, usually 100.64.0.0/16, where addresses are scarce.",
        examples=["100.64.0.0/16"],
    )
    nat_gateways: Literal["single", "per-zone"] = Field(
        default="single",
        description="`single` is cheaper; `per-zone` keeps image pulls alive when a zone fails.",
    )
    interface_endpoints: bool = Field(
        default=False,
        description="Private endpoints for ECR, STS, EC2 and CloudWatch Logs; each has an hourly price.",
    )

    @field_validator("cidr", "pod_cidr")
    @classmethod
    def _is_a_network(cls, cidr: str | None) -> str | None:
        if cidr is None:
            return None
        try:
            network = ipaddress.IPv4Network(cidr)
        except ValueError as error:
            raise ValueError(
                f"{cidr!r} is not an IPv4 network ({error}); write one like 10.0.0.0/16"
            ) from None
        if not _VPC_PREFIXES[0] <= network.prefixlen <= _VPC_PREFIXES[1]:
            raise ValueError(
                f"{cidr!r} has prefix length {network.prefixlen}; choose one from "
                f"/{_VPC_PREFIXES[0]} to /{_VPC_PREFIXES[1]}"
            )
        if private_block(network) is None:
            raise ValueError(
                f"{cidr!r} is not a private range; choose one of {', '.join(map(str, _PRIVATE_BLOCKS))}"
            )
        return cidr

    @model_validator(mode="after")
    def _ranges_do_not_overlap(self) -> Network:
        if self.pod_cidr is None:
            return self
        if ipaddress.IPv4Network(self.cidr).overlaps(ipaddress.IPv4Network(self.pod_cidr)):
            raise ValueError(
                f"podCidr {self.pod_cidr} overlaps cidr {self.cidr}; choose another, usually 100.64.0.0/16"
            )
        return self

    @model_validator(mode="after")
    def _ranges_may_share_a_vpc(self) -> Network:
        if self.pod_cidr is None:
            return self
        block = private_block(ipaddress.IPv4Network(self.cidr))
        if private_block(ipaddress.IPv4Network(self.pod_cidr)) not in (block, _SHARED_BLOCK):
            raise ValueError(
                f"AWS does not accept podCidr {self.pod_cidr} beside cidr {self.cidr}; choose one in "
                f"{_SHARED_BLOCK} or in {block}"
            )
        return self


def private_block(network: ipaddress.IPv4Network) -> ipaddress.IPv4Network | None:
    """The block of private addresses that holds all of a network, or None for a public one."""
    return next((block for block in _PRIVATE_BLOCKS if network.subnet_of(block)), None)
