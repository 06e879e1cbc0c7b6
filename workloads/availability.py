"""What `ha: true` asks of a service: that no single node, pod or store takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.service_base import Service
from infra.service_config import BringYourOwnService

# Two of everything: one answers while the other is replaced.
_COPIES = 2


def check_availability(name: str, service: Service, stack: StackConfig) -> None:
    """Raises `ConfigError` where a service with `ha: true` has a single point of failure.

    That its replicas sit on two nodes is not checked but made so, by the placement and the serve config.
    """
    if service.ha and (findings := list(_findings(name, service, stack))):
        raise ConfigError(*findings)


def _findings(name: str, service: Service, stack: StackConfig) -> Iterator[str]:
    if service.replicas.min < _COPIES:
        yield (
            f"services.{name}.replicas.min: {service.replicas.min} and ha: true exclude each other, because "
            "the node of a single replica takes the service with it; "
            f"raise min to {_COPIES}, or say ha: false"
        )
    kind = stack.store.kind
    # Elsewhere the pod of `inCluster` is the only store there is; requests do not need it.
    allowed = "elasticache" if stack.target == "aws" else "inCluster"
    if kind != allowed:
        yield (
            f"services.{name}.ha: true needs a store of Ray's state that outlives a node, and gcsStore.kind "
            f"is {kind!r}; say gcsStore: {{kind: {allowed}}}, or ha: false"
        )
    if isinstance(service, BringYourOwnService):
        yield from _own_deployments(name, service)


def _own_deployments(name: str, service: BringYourOwnService) -> Iterator[str]:
    if not service.deployments:
        yield (
            f"services.{name}.deployments: empty, so how many copies of the ingress there are is not known; "
            f"list the application's deployments with num_replicas {_COPIES} or more, or say ha: false"
        )
    for index, deployment in enumerate(service.deployments):
        copies = _copies(deployment)
        if copies < _COPIES:
            yield (
                f"services.{name}.deployments[{index}].num_replicas: {deployment.get('name')!r} has "
                f"{copies}, and ha: true needs {_COPIES}; raise it (or autoscaling_config.min_replicas)"
            )
        if not deployment.get("max_replicas_per_node"):
            yield (
                f"services.{name}.deployments[{index}].max_replicas_per_node: not set, so all copies of "
                f"{deployment.get('name')!r} may share a node; set it below their number"
            )


def _copies(deployment: dict[str, Any]) -> int:
    # Ray's own default for both is one.
    bounds = deployment.get("autoscaling_config")
    if isinstance(bounds, dict):
        return int(bounds.get("min_replicas", 1))  # pyright: ignore[reportUnknownArgumentType]
    count = deployment.get("num_replicas")
    return count if isinstance(count, int) else 1
