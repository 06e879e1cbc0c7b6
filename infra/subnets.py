"""Which addresses each subnet gets: pure arithmetic.

The VPC's range is cut into quarters. Each of three zones owns one as its private subnet. The last quarter is
cut into quarters again, one a zone, for the public subnet and for the interfaces of the EKS control plane. A
stack of two zones leaves the third one's shares free, so that adding a zone moves no subnet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

# A quarter is two bits longer than the whole.
_QUARTER = 2
_HALF = 1
# EKS recommends a subnet of this size for its own interfaces, where no node can use up the addresses that an
# upgrade needs (https://docs.aws.amazon.com/eks/latest/best-practices/subnets.html).
_CONTROL_PLANE_PREFIX = 28


@dataclass(frozen=True)
class ZoneSubnets:
    """The subnets of one zone; `pods` only where the VPC has a second range."""

    zone: str
    private: IPv4Network
    public: IPv4Network
    control_plane: IPv4Network
    pods: IPv4Network | None


def plan_subnets(cidr: str, pod_cidr: str | None, zones: Sequence[str]) -> list[ZoneSubnets]:
    """Subnets for two or three zones out of a range of /16 to /21, which the configuration has checked."""
    *private, shared = IPv4Network(cidr).subnets(_QUARTER)
    shares = list(shared.subnets(_QUARTER))
    pods = [] if pod_cidr is None else list(IPv4Network(pod_cidr).subnets(_QUARTER))
    return [
        ZoneSubnets(
            zone=zone,
            private=private[index],
            public=next(shares[index].subnets(_HALF)),
            control_plane=list(shares[index].subnets(new_prefix=_CONTROL_PLANE_PREFIX))[-1],
            pods=pods[index] if pods else None,
        )
        for index, zone in enumerate(zones)
    ]
