"""NetworkPolicies of a namespace, registered from plain specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s


def register_policies(
    prefix: str, namespace: pulumi.Input[str], specs: Mapping[str, dict[str, Any]], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """One NetworkPolicy a spec, by name; `prefix` makes the resources' names unique in the stack."""
    return [
        k8s.networking.v1.NetworkPolicy(
            f"{prefix}-{name}",
            metadata={"name": name, "namespace": namespace},
            spec=cast("k8s.networking.v1.NetworkPolicySpecArgsDict", spec),
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for name, spec in specs.items()
    ]
