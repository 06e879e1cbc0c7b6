"""Graphs of a stack's network and cluster, and questions to them that several tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from offline.graph import Graph
from offline.recorder import evaluate

POOL = {"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 4}
PINS = {
    "vpcCni": "v1.22.3-eksbuild.1",
    "kubeProxy": "v1.35.3-eksbuild.17",
    "podIdentityAgent": "v1.3.10-eksbuild.3",
    "coredns": "v1.13.2-eksbuild.11",
    "ebsCsi": "v1.63.1-eksbuild.1",
    "metricsServer": "v0.9.0-eksbuild.5",
}
# As little as a stack can say, and nearly as much as it can.
STACKS: dict[str, dict[str, Any]] = {
    "small": {
        "zones": ["us-west-2a", "us-west-2b"],
        "network": {"cidr": "10.1.0.0/21"},
        "cluster": {
            "version": "1.35",
            "publicAccessCidrs": ["203.0.113.0/24"],
            "admins": ["arn:aws:iam::123456789012:role/platform/admin"],
        },
        "nodePools": [POOL],
    },
    "large": {
        "environment": "prod",
        "name": "models",
        "zones": ["us-west-2a", "us-west-2b", "us-west-2c"],
        "network": {
            "cidr": "10.0.0.0/16",
            "podCidr": "100.64.0.0/16",
            "natGateways": "per-zone",
            "interfaceEndpoints": True,
        },
        "cluster": {
            "version": "1.35",
            "logRetentionDays": 365,
            "systemNodes": {"count": 3, "releaseVersion": "1.35.6-20260714"},
            "addOns": PINS,
        },
        "karpenter": {"amiDate": "20260714"},
        "nodePools": [POOL],
    },
}

_WITHOUT_TAGS = {
    "aws:ec2/route:Route",
    "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "aws:ec2/vpcIpv4CidrBlockAssociation:VpcIpv4CidrBlockAssociation",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
}


@cache
def platform(stack: str, *, unknowns: bool = False) -> Graph:
    """Network and cluster of one of `STACKS`."""
    return evaluate(
        "test",
        project_dir=Path(__file__).parent / "programs" / "network_and_cluster",
        config_overrides={"aws": STACKS[stack]},
        unknowns=unknowns,
    )


def untagged(graph: Graph, tags: dict[str, str]) -> Iterator[str]:
    """Labels of AWS resources that can have tags and lack one of these."""
    taggable = (
        resource
        for resource in graph.resources
        if resource.type.startswith(("aws:", "eks:")) and resource.type not in _WITHOUT_TAGS
    )
    for resource in taggable:
        if not resource.inputs.get("tags", {}).items() >= tags.items():
            yield resource.label
