"""A stack on AWS with what the stack files leave out: an ingress, alarms, and a pool of reserved machines."""

from __future__ import annotations

from functools import cache
from typing import Any

from offline.delete_order import dependencies
from offline.graph import Graph, Resource
from offline.recorder import evaluate

_AWS: dict[str, Any] = {
    "zones": ["us-west-2a", "us-west-2b"],
    "cluster": {"version": "1.34"},
    "karpenter": {"amiDate": "20261105"},
    "nodePools": [
        {"name": "inf2", "instanceTypes": ["inf2.8xlarge", "inf2.24xlarge"], "maxNeuronDevices": 12},
        {
            "name": "reserved",
            "instanceTypes": ["trn1.32xlarge"],
            "capacityTypes": ["reserved"],
            "capacityReservations": ["cr-0a1b"],
            "maxNeuronDevices": 16,
            "zones": ["us-west-2b"],
        },
    ],
    "ingress": {
        "enabled": True,
        "certificateArn": "arn:aws:acm:us-west-2:123456789012:certificate/0a1b",
        "host": "models.example.com",
    },
    "alarms": {"notify": ["oncall@example.com", "https://events.example.com/alarm"]},
}
_CHAT: dict[str, Any] = {
    "app": "llm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "accelerator": "neuron",
    "instanceType": "inf2.8xlarge",
    "tensorParallel": 2,
    "image": "registry.example/neuron:1",
}


@cache
def aws_platform(*, unknowns: bool = False) -> Graph:
    """The project's own program for that stack; what its stack file says of the rest is replaced."""
    return evaluate(
        "dev",
        unknowns=unknowns,
        config_overrides={
            "aws": _AWS,
            "services": {"chat": _CHAT},
            "chatUi": {"enabled": False},
        },
    )


def needs(graph: Graph, resource: Resource, other: Resource) -> bool:
    """Whether one resource is deleted before another, whatever lies between them."""
    edges = dependencies(graph)
    seen: set[str] = set()
    waiting = list(edges[resource.urn])
    while waiting:
        urn = waiting.pop()
        if urn not in seen:
            seen.add(urn)
            waiting.extend(edges[urn])
    return other.urn in seen
