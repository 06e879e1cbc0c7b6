"""Whether the node pools can hold what the services ask for, at their maximum and while one is rolled out.

A pool counts Neuron devices, and a worker takes a whole node. A change of image or pod shape makes a second
Ray cluster beside the first: it starts with as many workers as `replicas.min` needs, and the first keeps its
own until the second answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.aws_config import Aws, NodePool
from infra.config_errors import ConfigError
from infra.service_base import Service
from infra.service_config import LlmService
from workloads.placement import Placement, head_pod
from workloads.upgrade import makes_second_cluster


@dataclass(frozen=True)
class Demand:
    """Workers of one service and what each takes."""

    name: str
    service: Service
    placement: Placement

    @property
    def min_devices(self) -> int:
        """Neuron devices that the service always has."""
        return self.placement.min_workers * self.placement.neuron_devices

    @property
    def max_devices(self) -> int:
        """Neuron devices under load."""
        return self.placement.max_workers * self.placement.neuron_devices

    @property
    def second_cluster_workers(self) -> int:
        """Workers that a roll-out adds for a while."""
        return self.placement.min_workers if makes_second_cluster(self.service) else 0

    @property
    def nodes_beside(self) -> int:
        """Nodes that a roll-out needs beside those in use: of the second cluster, or one that compiles."""
        compiling = isinstance(self.service, LlmService) and self.service.precompile
        return max(self.second_cluster_workers, int(compiling))

    @property
    def second_cluster_devices(self) -> int:
        """Neuron devices that a roll-out adds for a while."""
        return self.nodes_beside * self.placement.neuron_devices


@dataclass(frozen=True)
class NeuronCores:
    """NeuronCores of all services: always, under load, and when all of them are rolled out under load."""

    min: int
    max: int
    upgrade_peak: int


def neuron_cores(demands: Sequence[Demand]) -> NeuronCores:
    """What the services of a stack ask for together."""

    def cores(demand: Demand, workers: int) -> int:
        return demand.placement.neuron_cores * workers

    least = sum(cores(demand, demand.placement.min_workers) for demand in demands)
    most = sum(cores(demand, demand.placement.max_workers) for demand in demands)
    second = sum(cores(demand, demand.second_cluster_workers) for demand in demands)
    return NeuronCores(least, most, most + second)


def check_capacity(aws: Aws, demands: Sequence[Demand]) -> list[str]:
    """Warnings of what the pools can hold only at times. Raises `ConfigError` for what they never can."""
    on_neuron = [demand for demand in demands if demand.placement.neuron_devices]
    pools = {demand.name: pools_of(demand, aws) for demand in on_neuron}
    findings = [_without_pool(demand, aws) for demand in on_neuron if not pools[demand.name]]
    warnings: list[str] = []
    for group in {frozenset(names) for names in pools.values() if names}:
        members = [demand for demand in on_neuron if pools[demand.name] and set(pools[demand.name]) <= group]
        group_pools = [pool for pool in aws.node_pools if pool.name in group]
        findings += _too_many(group_pools, members)
        warnings += _at_times(group_pools, members)
    heads = list(_heads(aws, demands))
    findings += [text for text, fatal in heads if fatal]
    warnings += [text for text, fatal in heads if not fatal]
    if findings:
        raise ConfigError(*findings)
    return warnings


def pools_of(demand: Demand, aws: Aws) -> list[str]:
    """Names of the pools that have the instance type of a service."""
    return [pool.name for pool in aws.node_pools if demand.service.instance_type in pool.instance_types]


def _without_pool(demand: Demand, aws: Aws) -> str:
    offered = "; ".join(f"{pool.name!r} has {', '.join(pool.instance_types)}" for pool in aws.node_pools)
    return (
        f"services.{demand.name}.instanceType: no node pool has {demand.service.instance_type} ({offered}); "
        "add it to the instanceTypes of a pool, or choose one of theirs"
    )


def _too_many(pools: Sequence[NodePool], members: Sequence[Demand]) -> Iterator[str]:
    limit = _limit(pools)
    most = sum(demand.max_devices for demand in members)
    if most > limit:
        yield (
            f"{_key(pools)}: {limit} Neuron devices are fewer than the {most} of the services' "
            f"replicas.max ({_each(members, 'max_devices')}); raise it to {most}, or lower replicas.max"
        )
        return
    always = sum(demand.min_devices for demand in members)
    for demand in members:
        peak = always + demand.second_cluster_devices
        if peak > limit and not makes_second_cluster(demand.service):
            yield (
                f"services.{demand.name}.precompile: compiles on one more node of "
                f"{demand.service.instance_type} while the service runs, {peak} Neuron devices in all, and "
                f"{_key(pools)} is {limit}, so a change of its shapes could never finish; raise that to "
                f"{peak}, or remove precompile"
            )
        elif peak > limit:
            yield (
                f"services.{demand.name}.upgrade: 'new-cluster' needs {peak} Neuron devices for a roll-out "
                f"({demand.second_cluster_workers} more nodes of {demand.service.instance_type} beside the "
                f"{always} devices that always run), and {_key(pools)} is {limit}, so none could ever "
                f"finish; raise that to {peak}, or say upgrade: recreate, which accepts an interruption"
            )


def _at_times(pools: Sequence[NodePool], members: Sequence[Demand]) -> Iterator[str]:
    limit = _limit(pools)
    second = sum(demand.second_cluster_devices for demand in members)
    always = sum(demand.min_devices for demand in members) + second
    loaded = sum(demand.max_devices for demand in members) + second
    if always > limit:
        yield (
            f"{_key(pools)}: {limit} Neuron devices do not hold the {always} of a roll-out of all services "
            "at once; change their images one after the other, "
            f"raise it to {loaded}, or say upgrade: recreate"
        )
    elif loaded > limit:
        yield (
            f"{_key(pools)}: {limit} Neuron devices do not hold the {loaded} of a roll-out while all "
            f"services are at replicas.max, which would wait for the load to go; raise it to {loaded}"
        )
    for pool in pools:
        if pool.capacity_types == ["reserved"]:
            yield (
                f"aws.nodePools {pool.name!r}: starts nothing outside its capacityReservations, whose size "
                f"is not known here; they must hold {loaded} Neuron devices"
            )


def _limit(pools: Sequence[NodePool]) -> int:
    return sum(pool.max_neuron_devices for pool in pools)


def _key(pools: Sequence[NodePool]) -> str:
    names = " and ".join(repr(pool.name) for pool in pools)
    return f"aws.nodePools {names}: maxNeuronDevices"


def _each(members: Sequence[Demand], field: str) -> str:
    return ", ".join(f"{demand.name} {getattr(demand, field)}" for demand in members)


def _heads(aws: Aws, demands: Sequence[Demand]) -> Iterator[tuple[str, bool]]:
    """Findings on the pool of Ray heads, each with whether it is one that can never work."""
    limit = aws.karpenter.general_max_cpus
    one_each = sum(head_pod(demand.service).cpus for demand in demands)
    rolling = one_each + sum(
        head_pod(demand.service).cpus for demand in demands if makes_second_cluster(demand.service)
    )
    if one_each > limit:
        yield (
            f"aws.karpenter.generalMaxCpus: {limit} CPUs do not hold the {one_each:g} of the services' Ray "
            f"heads; raise it to {math.ceil(rolling)} or more",
            True,
        )
    elif rolling > limit:
        yield (
            f"aws.karpenter.generalMaxCpus: {limit} CPUs do not hold the {rolling:g} of all Ray heads while "
            f"every service is rolled out; raise it to {math.ceil(rolling)} or more",
            False,
        )
