"""The identity of a release: what has to be the same for two deployments to be the same software."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Settings that Serve changes while a release runs, and so are not part of it.
_SCALING_KEYS = (
    "num_replicas",
    "autoscaling_config",
    "max_ongoing_requests",
    "max_queued_requests",
    "max_replicas_per_node",
    "max_surge_percent",
    "user_config",
)
_GROUP_SCALING_KEYS = ("replicas", "minReplicas", "maxReplicas")


def release_id(serve_config: Mapping[str, Any], ray_cluster: Mapping[str, Any]) -> str:
    """Ten hex digits over code, arguments and pod shape; scaling bounds do not count.

    Turning autoscaling on or off does count: KubeRay answers it with a new Ray cluster.
    """
    serve = copy.deepcopy(dict(serve_config))
    for application in serve["applications"]:
        for deployment in application["deployments"]:
            for key in _SCALING_KEYS:
                deployment.pop(key, None)
    cluster = copy.deepcopy(dict(ray_cluster))
    for group in cluster["workerGroupSpecs"]:
        for key in _GROUP_SCALING_KEYS:
            group.pop(key, None)
    text = json.dumps([serve, cluster], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
