"""How a service gets a new image or pod shape.

By default KubeRay makes a second Ray cluster beside the first. Its own way to avoid that,
`upgradeStrategy.type: None`, makes no cluster at all: the Serve config of the first one is updated, its pods
keep the old image, and nothing says so (shouldPrepareNewCluster in
ray-operator/controllers/ray/rayservice_controller.go, tag v1.7.0). So `upgrade: recreate` is done by the
engine, which deletes the RayService first and makes it anew.
"""

from __future__ import annotations

from typing import Any

from infra.service_base import Service
from workloads.effects import Effect, effect

# Every part of a Ray cluster that this program writes. Of a template no part is left out, because the
# engine's paths know no exceptions: tolerations replace the RayService, too, and only so do they reach a pod.
_PARTS = (
    "rayVersion",
    "authOptions",
    "gcsFaultToleranceOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    *(
        f"workerGroupSpecs[*].{field}"
        for field in (
            "groupName",
            "replicas",
            "minReplicas",
            "maxReplicas",
            "resources",
            "rayStartParams",
            "template",
        )
    ),
)


def makes_second_cluster(service: Service) -> bool:
    """Whether a changed Ray cluster is made beside the one that runs, so that both hold what they need."""
    return service.upgrade != "recreate"


def upgrade_options(service: Service) -> dict[str, Any]:
    """Resource options of the RayService that follow from the service's `upgrade`."""
    if makes_second_cluster(service):
        return {}
    parts = [f"rayClusterConfig.{part}" for part in _PARTS]
    replacing = [f"spec.{part}" for part in parts if effect(part) is Effect.SECOND_CLUSTER]
    return {"delete_before_replace": True, "replace_on_changes": replacing}
