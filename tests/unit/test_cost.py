"""What a stack costs: sourced prices or the stack file's, and never a guess."""

from __future__ import annotations

from typing import Any

import pytest

from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.instances import NEURON_INSTANCES
from infra.prices import prices_of
from tests.unit.stacks import POOL, stack
from workloads.capacity import Demand
from workloads.cost import check_prices, cost_per_hour
from workloads.placement import place


def cost(config: StackConfig) -> dict[str, Any]:
    found = cost_per_hour(config, demands(config))
    assert found is not None
    return found


def demands(config: StackConfig) -> list[Demand]:
    return [Demand(name, service, place(name, service)) for name, service in config.services.items()]


def test_every_part_is_its_count_times_its_price() -> None:
    prices = {"inf2.8xlarge": 2.0, "cache.t4g.small": 0.5, "nat-gateway": 0.25, "eks-cluster": 0.125}
    parts = cost(stack(prices=prices, network={"natGateways": "per-zone"}))["parts"]
    assert parts["neuronNodes inf2"] == {"min": 2.0, "max": 4.0}
    assert parts["gcsStore"] == {"min": 1.0, "max": 1.0}
    assert parts["natGateways"] == {"min": 0.5, "max": 0.5}
    assert parts["controlPlane"] == {"min": 0.125, "max": 0.125}


def test_the_sum_is_that_of_the_parts() -> None:
    found = cost(stack(prices={"cache.t4g.small": 0.5}))
    for bound in ("min", "max"):
        assert found[bound] == pytest.approx(sum(part[bound] for part in found["parts"].values()))
    assert found["unknown"] == []
    assert found["max"] - found["min"] == pytest.approx(prices_of("us-west-2", {})["inf2.8xlarge"], abs=0.001)


def test_an_unknown_price_makes_the_sum_unknown_and_names_its_key() -> None:
    found = cost(stack())
    assert found["min"] is None
    assert found["max"] is None
    assert found["parts"]["gcsStore"] == {"min": None, "max": None}
    assert found["unknown"] == [
        "no list price of cache.t4g.small in us-west-2 is known here; set aws.prices.cache.t4g.small"
    ]


def test_in_a_region_without_prices_only_the_control_plane_has_one() -> None:
    parts = cost(stack(zones=["eu-north-1a", "eu-north-1b"]))["parts"]
    assert {name for name, part in parts.items() if part["min"] is not None} == {"controlPlane"}


def test_what_is_not_there_costs_nothing() -> None:
    plain = cost(stack(gcs_store={"kind": "none"}))["parts"]
    assert {"gcsStore", "interfaceEndpoints", "loadBalancers"}.isdisjoint(plain)
    arn = "arn:aws:acm:us-west-2:123456789012:certificate/a"
    more = stack(
        {"a": {"replicas": {"min": 1, "max": 1}}, "b": {"replicas": {"min": 1, "max": 1}}},
        network={"interfaceEndpoints": True},
        ingress={"enabled": True, "certificateArn": arn, "host": "a.example"},
        prices={"interface-endpoint": 1.0, "load-balancer": 1.0},
    )
    parts = cost(more)["parts"]
    assert parts["interfaceEndpoints"]["min"] == 5 * 2
    assert parts["loadBalancers"]["min"] == 2


def test_heads_are_put_on_the_general_type_that_comes_cheapest() -> None:
    services = {f"s{number}": {"replicas": {"min": 1, "max": 1}} for number in range(6)}
    pools = [POOL | {"maxNeuronDevices": 12}]
    # Three heads of one CPU fit an m6i.xlarge, one an m6i.large of half its price.
    parts = cost(stack(services, pools=pools))["parts"]
    assert parts["generalNodes"]["min"] == pytest.approx(2 * 0.192)


def test_a_price_that_nothing_asks_for_is_refused_with_the_nearest() -> None:
    config = stack(prices={"inf2.8xlrge": 1.0})
    with pytest.raises(ConfigError, match=r"aws.prices.inf2.8xlrge: .* did you mean 'inf2.8xlarge'\?"):
        check_prices(config, demands(config))
    other = stack(prices={"trn1.32xlarge": 1.0})
    check_prices(other, demands(other))


def test_a_price_is_positive() -> None:
    with pytest.raises(ValueError, match=r"greater than 0"):
        stack(prices={"inf2.8xlarge": 0})


def test_a_cluster_that_somebody_else_pays_has_no_cost() -> None:
    own = {"app": "bring-your-own", "importPath": "a:b", "accelerator": "cpu", "image": "i:1"}
    config = StackConfig.model_validate({"target": "kubernetes", "services": {"own": own}})
    assert cost_per_hour(config, demands(config)) is None


def test_neuron_instances_have_a_price_where_the_price_list_was_read() -> None:
    assert set(NEURON_INSTANCES) <= set(prices_of("us-east-1", {}))
