"""Whether the zones of a stack have the machines that its pools ask for, asked at preview.

The answer refuses a stack or lets it pass. It never becomes an input of a resource: a zone that sells out
tomorrow must not move a subnet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws

from infra.aws_config import Aws
from infra.config_errors import ConfigError

# Instance type -> zones of the region that offer it.
Offerings = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Demand:
    """A pool that may start any of some instance types in each of some zones; `key` is its configuration."""

    key: str
    instance_types: Sequence[str]
    zones: Sequence[str]


def check(config: Aws) -> None:
    """Raise `ConfigError` for each zone that offers none of a pool's instance types."""
    wanted = demands(config)
    offered = _offerings(sorted({name for demand in wanted for name in demand.instance_types}))
    if findings := list(unmet(wanted, offered, config.region)):
        raise ConfigError(*findings)


def demands(config: Aws) -> list[Demand]:
    """What the stack's pools ask of its zones."""
    return [
        Demand("aws.cluster.systemNodes", [config.cluster.system_nodes.instance_type], config.zones),
        Demand("aws.karpenter.generalInstanceTypes", config.karpenter.general_instance_types, config.zones),
        *(
            Demand(f"aws.nodePools[{index}]", pool.instance_types, pool.zones or config.zones)
            for index, pool in enumerate(config.node_pools)
        ),
    ]


def unmet(wanted: Sequence[Demand], offered: Offerings, region: str) -> Iterator[str]:
    """A sentence for each zone that has nothing for a pool, with the zones that do."""
    for demand in wanted:
        good = frozenset[str]().union(*(offered.get(name, frozenset()) for name in demand.instance_types))
        types = ", ".join(demand.instance_types)
        for zone in demand.zones:
            if zone not in good:
                way_out = (
                    f"the zones of {region} that do: {', '.join(sorted(good))}"
                    if good
                    else f"no zone of {region} does; choose another region or other instance types"
                )
                yield f"{demand.key}: zone {zone} offers none of {types}; {way_out}"


def _offerings(instance_types: Sequence[str]) -> Offerings:
    answer = aws.ec2.get_instance_type_offerings(
        location_type="availability-zone",
        filters=[{"name": "instance-type", "values": list(instance_types)}],
    )
    pairs = list(zip(answer.instance_types, answer.locations, strict=True))
    return {name: frozenset(zone for type_, zone in pairs if type_ == name) for name in instance_types}
