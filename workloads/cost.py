"""What a stack on AWS costs an hour: what runs all the time, at list prices, at replicas.min and .max.

Traffic, disks, logs, the bucket and whatever else is billed by use are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra import prices
from infra.aws_config import Aws
from infra.config import StackConfig
from infra.config_errors import ConfigError, nearest
from infra.instances import GENERAL_INSTANCES
from infra.network_config import INTERFACE_ENDPOINTS
from infra.service_base import ModelService
from workloads.capacity import Demand, pools_of
from workloads.placement import head_pod

# Fractions of a cent are noise of the arithmetic.
_DECIMALS = 4


@dataclass(frozen=True)
class Item:
    """A part of the bill: how much of what, at the least and at the most."""

    part: str
    price: str
    min_count: int
    max_count: int


def check_prices(stack: StackConfig, demands: Sequence[Demand]) -> None:
    """Raises `ConfigError` for a price of something that no stack of this kind buys."""
    if stack.aws is None:
        return
    bought = {item.price for item in _items(stack, stack.aws, demands)}
    offered = {name for pool in stack.aws.node_pools for name in pool.instance_types}
    known = bought | offered | set(stack.aws.karpenter.general_instance_types) | prices.known_names()
    findings = [
        f"aws.prices.{name}: nothing of this name is bought; {nearest(name, sorted(known))}"
        for name in stack.aws.prices
        if name not in known
    ]
    if findings:
        raise ConfigError(*findings)


def cost_per_hour(stack: StackConfig, demands: Sequence[Demand]) -> dict[str, Any] | None:
    """The stack output `costPerHour`; None for a cluster that somebody else pays.

    `parts` maps each part to its `min` and `max`, USD or None. Where a price is unknown, so is the sum, and
    `unknown` says which key of the stack file sets it.
    """
    if stack.aws is None:
        return None
    known = prices.prices_of(stack.aws.region, stack.aws.prices)
    items = _items(stack, stack.aws, demands)
    parts = {
        part: {
            "min": _sum(_amount(item.price, item.min_count, known) for item in items if item.part == part),
            "max": _sum(_amount(item.price, item.max_count, known) for item in items if item.part == part),
        }
        for part in dict.fromkeys(item.part for item in items)
    }
    missing = sorted({item.price for item in items if item.price not in known and item.max_count})
    return {
        "currency": "USD",
        "min": _sum(part["min"] for part in parts.values()),
        "max": _sum(part["max"] for part in parts.values()),
        "parts": parts,
        "unknown": [
            f"no list price of {name} in {stack.aws.region} is known here; set aws.prices.{name}"
            for name in missing
        ],
    }


def _amount(name: str, count: int, known: Mapping[str, float]) -> float | None:
    if count == 0:
        return 0.0
    return known[name] * count if name in known else None


def _sum(amounts: Iterable[float | None]) -> float | None:
    """The sum, or None where one of them is unknown."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return round(total, _DECIMALS)


def _items(stack: StackConfig, aws: Aws, demands: Sequence[Demand]) -> list[Item]:
    items = [Item("controlPlane", prices.EKS_CLUSTER, 1, 1)]
    nats = len(aws.zones) if aws.network.nat_gateways == "per-zone" else 1
    items.append(Item("natGateways", prices.NAT_GATEWAY, nats, nats))
    if aws.network.interface_endpoints:
        endpoints = len(INTERFACE_ENDPOINTS) * len(aws.zones)
        items.append(Item("interfaceEndpoints", prices.INTERFACE_ENDPOINT, endpoints, endpoints))
    if aws.ingress.enabled:
        models = sum(isinstance(service, ModelService) for service in stack.services.values())
        items.append(Item("loadBalancers", prices.LOAD_BALANCER, models, models))
    if stack.store.kind == "elasticache":
        nodes = stack.store.nodes
        items.append(Item("gcsStore", stack.store.node_type, nodes, nodes))
    system = aws.cluster.system_nodes
    items.append(Item("systemNodes", system.instance_type, system.count, system.count))
    items.append(_general_nodes(aws, demands))
    return [*items, *_neuron_nodes(aws, demands)]


def _neuron_nodes(aws: Aws, demands: Sequence[Demand]) -> list[Item]:
    """An item a service, under the pools that its nodes can come from; spot is counted as on demand."""
    return [
        Item(
            "neuronNodes " + "/".join(pools_of(demand, aws)),
            demand.service.instance_type or "",
            demand.placement.min_workers,
            demand.placement.max_workers,
        )
        for demand in demands
        if demand.placement.neuron_devices
    ]


def _general_nodes(aws: Aws, demands: Sequence[Demand]) -> Item:
    """Nodes for the Ray heads, of the type that comes cheapest; what Karpenter really packs may differ."""
    known = prices.prices_of(aws.region, aws.prices)
    counts = {name: _nodes_for_heads(name, demands) for name in aws.karpenter.general_instance_types}
    priced = {name: count * known[name] for name, count in counts.items() if count and name in known}
    name = min(priced, key=priced.__getitem__) if priced else aws.karpenter.general_instance_types[0]
    count = counts[name] or len(demands)
    return Item("generalNodes", name, count, count)


def _nodes_for_heads(instance_type: str, demands: Sequence[Demand]) -> int | None:
    """Nodes of one type that hold all heads, or None where its size is not known or a head is larger."""
    node = GENERAL_INSTANCES.get(instance_type)
    if node is None:
        return None
    pods = [head_pod(demand.service) for demand in demands]
    largest_cpu = max(pod.cpus for pod in pods) * 1000
    largest_memory = max(pod.memory_gib for pod in pods) * 1024
    on_a_node = min(node.allocatable_cpu_millis // largest_cpu, node.allocatable_memory_mib // largest_memory)
    return math.ceil(len(demands) / on_a_node) if on_a_node else None
