"""A zone without the machines that a pool asks for is refused at preview, with the zones that have them."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import zones
from infra.aws_config import Aws
from infra.config_errors import ConfigError
from infra.zones import Demand

EVERYWHERE = ["us-west-2a", "us-west-2b", "us-west-2c"]


def stack(**keys: Any) -> Aws:
    return Aws.model_validate(
        {
            "zones": ["us-west-2a", "us-west-2c"],
            "cluster": {"version": "1.35"},
            "nodePools": [{"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 4}],
            **keys,
        }
    )


class Region(pulumi.runtime.Mocks):
    """A region that offers instance types in zones, and answers as EC2 does: filtered, in pairs."""

    def __init__(self, offered: dict[str, list[str]]) -> None:
        self.offered = offered
        self.asked: list[dict[str, Any]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name} was registered by a check")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        assert args.token == "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"
        self.asked.append(args.args)
        (wanted,) = args.args["filters"]
        pairs = [(name, zone) for name in wanted["values"] for zone in self.offered.get(name, [])]
        return {
            "id": "us-west-2",
            "region": "us-west-2",
            "locationTypes": [],
            "instanceTypes": [name for name, _ in pairs],
            "locations": [zone for _, zone in pairs],
        }


def check(config: Aws, **offered: list[str]) -> Region:
    general = dict.fromkeys(["m6i.large", "m6i.xlarge", "m6i.2xlarge"], EVERYWHERE)
    region = Region(general | {name.replace("_", "."): zones for name, zones in offered.items()})
    pulumi.runtime.set_mocks(region, project="neuron-serve", stack="dev")
    zones.check(config)
    return region


def test_zones_that_offer_everything_pass_with_one_question() -> None:
    region = check(stack(), inf2_8xlarge=EVERYWHERE)
    (question,) = region.asked
    assert question["locationType"] == "availability-zone"
    assert question["filters"] == [
        {"name": "instance-type", "values": ["inf2.8xlarge", "m6i.2xlarge", "m6i.large", "m6i.xlarge"]}
    ]


def test_a_zone_without_the_pools_machines_is_refused_with_those_that_have_them() -> None:
    with pytest.raises(ConfigError) as refused:
        check(stack(), inf2_8xlarge=["us-west-2a", "us-west-2b"])
    assert refused.value.findings == (
        "aws.nodePools[0]: zone us-west-2c offers none of inf2.8xlarge; the zones of "
        "us-west-2 that do: us-west-2a, us-west-2b",
    )


def test_a_zone_with_one_of_the_pools_machines_passes() -> None:
    pools = [{"name": "inf2", "instanceTypes": ["inf2.8xlarge", "inf2.24xlarge"], "maxNeuronDevices": 6}]
    check(stack(nodePools=pools), inf2_8xlarge=["us-west-2a"], inf2_24xlarge=["us-west-2c"])


def test_a_pool_of_its_own_zones_asks_nothing_of_the_others() -> None:
    pools = [
        {"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 4, "zones": ["us-west-2a"]}
    ]
    check(stack(nodePools=pools), inf2_8xlarge=["us-west-2a"])


def test_a_region_without_the_pools_machines_says_so() -> None:
    with pytest.raises(ConfigError, match="no zone of us-west-2 does; choose another region"):
        check(stack())


def test_every_pool_of_the_stack_is_asked_for() -> None:
    config = stack(
        cluster={"version": "1.35", "systemNodes": {"instanceType": "c6i.large"}},
        karpenter={"generalInstanceTypes": ["r6i.large"]},
    )
    assert zones.demands(config) == [
        Demand("aws.cluster.systemNodes", ["c6i.large"], config.zones),
        Demand("aws.karpenter.generalInstanceTypes", ["r6i.large"], config.zones),
        Demand("aws.nodePools[0]", ["inf2.8xlarge"], config.zones),
    ]
