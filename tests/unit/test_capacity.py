"""Pools hold their services at the maximum and in a roll-out, or the preview says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from infra.config import StackConfig
from infra.config_errors import ConfigError
from tests.unit.stacks import POOL, stack
from workloads.capacity import Demand, NeuronCores, check_capacity, neuron_cores
from workloads.placement import place

BIG = {"instanceType": "inf2.24xlarge", "tensorParallel": 4}


def demands(config: StackConfig) -> list[Demand]:
    return [Demand(name, service, place(name, service)) for name, service in config.services.items()]


def check(config: StackConfig) -> list[str]:
    assert config.aws is not None
    return check_capacity(config.aws, demands(config))


def pool(**keys: Any) -> dict[str, Any]:
    return POOL | keys


def test_a_pool_with_room_for_the_peak_of_a_roll_out_is_fine() -> None:
    assert check(stack(pools=[pool(maxNeuronDevices=3)])) == []


def test_an_instance_type_that_no_pool_has_is_refused_with_the_pools() -> None:
    with pytest.raises(
        ConfigError,
        match=r"chat.instanceType: no node pool has inf2.24xlarge \('inf2' has inf2.8xlarge\); add it",
    ):
        check(stack({"chat": BIG}))


def test_replicas_of_all_services_of_a_pool_count_against_its_limit() -> None:
    with pytest.raises(
        ConfigError,
        match=r"aws.nodePools 'inf2': maxNeuronDevices: 3 Neuron devices are fewer than the 4 of the "
        r"services' replicas.max \(a 2, b 2\); raise it to 4, or lower replicas.max",
    ):
        check(stack({"a": {}, "b": {}}))


def test_pools_of_the_same_instance_type_are_counted_together() -> None:
    pools = [pool(name="first", maxNeuronDevices=2), pool(name="second", maxNeuronDevices=2)]
    check(stack({"a": {}, "b": {}}, pools=pools))
    with pytest.raises(ConfigError, match=r"'first' and 'second': maxNeuronDevices: 4 .* the 6 of"):
        check(stack({"a": {}, "b": {}, "c": {}}, pools=pools))


def test_a_service_that_only_one_pool_can_hold_counts_against_that_one() -> None:
    pools = [
        pool(name="small", maxNeuronDevices=100),
        pool(name="both", instanceTypes=["inf2.8xlarge", "inf2.24xlarge"], maxNeuronDevices=6),
    ]
    with pytest.raises(ConfigError, match=r"'both': maxNeuronDevices: 6 .* fewer than the 12"):
        check(stack({"a": {}, "b": BIG | {"replicas": {"min": 4, "max": 6}}}, pools=pools))


def test_a_roll_out_that_can_never_finish_is_refused_unless_an_interruption_is_accepted() -> None:
    busy = {"replicas": {"min": 2, "max": 2}}
    with pytest.raises(
        ConfigError,
        match=r"chat.upgrade: 'new-cluster' needs 4 Neuron devices for a roll-out .* maxNeuronDevices is 3, "
        r"so none could ever finish; raise that to 4, or say upgrade: recreate",
    ):
        check(stack({"chat": busy}))
    assert check(stack({"chat": busy | {"upgrade": "recreate"}})) == []


def test_a_roll_out_that_waits_for_the_load_to_go_is_warned_of() -> None:
    (warning,) = check(stack(pools=[pool(maxNeuronDevices=2)]))
    assert (
        "2 Neuron devices do not hold the 3 of a roll-out while all services are at replicas.max" in warning
    )


def test_services_that_cannot_be_rolled_out_at_once_are_warned_of() -> None:
    one = {"replicas": {"min": 1, "max": 1}}
    (warning,) = check(stack({"a": one, "b": one}, pools=[pool(maxNeuronDevices=3)]))
    assert "3 Neuron devices do not hold the 4 of a roll-out of all services at once" in warning


def test_what_capacity_reservations_must_hold_is_said() -> None:
    reserved = pool(capacityTypes=["reserved"], capacityReservations=["cr-1"])
    (warning,) = check(stack(pools=[reserved]))
    assert "they must hold 3 Neuron devices" in warning


def test_ray_heads_fit_their_pool() -> None:
    services = {f"s{number}": {} for number in range(3)}
    pools = [pool(maxNeuronDevices=9)]
    with pytest.raises(ConfigError, match=r"generalMaxCpus: 2 CPUs do not hold the 3.6 .* raise it to 8"):
        check(stack(services, pools=pools, karpenter={"generalMaxCpus": 2}))
    (warning,) = check(stack(services, pools=pools, karpenter={"generalMaxCpus": 4}))
    assert "4 CPUs do not hold the 7.2 of all Ray heads while every service is rolled out" in warning


def test_neuron_cores_are_those_of_whole_nodes() -> None:
    services = {"a": {}, "b": BIG | {"replicas": {"min": 1, "max": 4}, "upgrade": "recreate"}}
    pools = [pool(instanceTypes=["inf2.8xlarge", "inf2.24xlarge"], maxNeuronDevices=20)]
    # a: 1 to 2 nodes of 2 cores; b: 1 to 2 nodes of 12.
    assert neuron_cores(demands(stack(services, pools=pools))) == NeuronCores(14, 28, 30)
