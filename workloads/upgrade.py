"""How a service gets a new image or pod shape.

By default KubeRay makes a second Ray cluster beside the first. Its own way to avoid that,
`upgradeStrategy.type: None`, makes no cluster at all: the Serve config of the first one is updated, its pods
keep the old image, and nothing says so (shouldPrepareNewCluster in
ray-operator/controllers/ray/rayservice_controller.go, tag ray-operator/v1.7.0). So `upgrade: recreate` is
done by the engine, which deletes the RayService first and makes it anew.
"""

from __future__ import annotations

from typing import Any

from infra.service_base import Service

_CLUSTER = "spec.rayClusterConfig"
# All of the Ray cluster's spec for which KubeRay would make a second one: everything but the number of
# workers and their tolerations (GenerateHashWithoutReplicasAndWorkersToDelete in
# ray-operator/controllers/ray/utils/util.go, tag ray-operator/v1.7.0).
_POD_SHAPE = (
    f"{_CLUSTER}.rayVersion",
    f"{_CLUSTER}.authOptions",
    f"{_CLUSTER}.gcsFaultToleranceOptions",
    f"{_CLUSTER}.enableInTreeAutoscaling",
    f"{_CLUSTER}.autoscalerOptions",
    f"{_CLUSTER}.headGroupSpec",
    f"{_CLUSTER}.workerGroupSpecs[*].groupName",
    f"{_CLUSTER}.workerGroupSpecs[*].resources",
    f"{_CLUSTER}.workerGroupSpecs[*].rayStartParams",
    f"{_CLUSTER}.workerGroupSpecs[*].template",
)


def upgrade_options(service: Service) -> dict[str, Any]:
    """Resource options of the RayService that follow from the service's `upgrade`."""
    if service.upgrade != "recreate":
        return {}
    return {"delete_before_replace": True, "replace_on_changes": list(_POD_SHAPE)}
