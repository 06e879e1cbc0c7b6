"""What a change of each field of a RayService does to what runs: the one table that everything else asks.

Two parties decide. KubeRay hashes the Ray cluster's spec without a few fields; where the hash differs it
makes a second cluster, and what it leaves out never reaches a cluster that runs. Of the rest of the spec it
looks at some fields itself (shouldPrepareNewCluster, rayClusterSpecForHashing, updateHeadPodServeLabel,
cleanUpRayClusterInstance and reconcileServices in ray-operator/controllers/ray/rayservice_controller.go, and
GenerateHashWithoutReplicasAndWorkersToDelete in ray-operator/controllers/ray/utils/util.go, tag v1.7.0).

Ray Serve compares an application's code version and the options of every deployment with those that run:
`ray.serve._private` of Ray 2.60, in deploy_utils.get_app_code_version, version.DeploymentVersion, the
`update_type` of config.DeploymentConfig and deployment_state.DeploymentState.deploy. What it reads at its own
start only is in api.serve_start_async. Tests hold the table against these functions and against an operator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum


class Effect(Enum):
    """What a change does; the value says it to a reader."""

    NOTHING = "nothing that runs takes it over; the next Ray cluster has it"
    OPERATOR = "the operator takes it over; pods and replicas do not notice"
    IN_PLACE = "taken over by what runs, without a reload"
    RELOAD = "the deployment's replicas reload"
    RELOAD_WITH_NEXT = (
        "the deployment's replicas reload, if the option comes or goes; another value waits for "
        "the next change of another option"
    )
    RELOAD_APPLICATION = "every replica of the application reloads"
    SECOND_CLUSTER = "a second Ray cluster beside the first, then a switch"
    UNKNOWN = "unknown"


IS_RELEASE = frozenset(
    {
        Effect.RELOAD,
        Effect.RELOAD_WITH_NEXT,
        Effect.RELOAD_APPLICATION,
        Effect.SECOND_CLUSTER,
        Effect.UNKNOWN,
    }
)
"""Effects that make other software of what runs. What is unknown is better checked once too often."""

_CLUSTER = "rayClusterConfig"
_HEAD = f"{_CLUSTER}.headGroupSpec"
_GROUP = f"{_CLUSTER}.workerGroupSpecs.*"
_SERVE = "serveConfigV2"
_APPLICATION = f"{_SERVE}.applications.*"
_DEPLOYMENT = f"{_APPLICATION}.deployments.*"


def _below(parent: str, effect: Effect, *fields: str) -> dict[str, Effect]:
    return {f"{parent}.{field}" if parent else field: effect for field in fields}


TABLE: dict[str, Effect] = {
    **_below(
        "", Effect.OPERATOR, "excludeHeadPodFromServeSvc", "rayClusterDeletionDelaySeconds", "upgradeStrategy"
    ),
    # A Service is written anew only when traffic moves to another cluster; the thresholds are read no more.
    **_below(
        "",
        Effect.NOTHING,
        "serveService",
        "serviceUnhealthySecondThreshold",
        "deploymentUnhealthySecondThreshold",
    ),
    _CLUSTER: Effect.SECOND_CLUSTER,
    **_below(_CLUSTER, Effect.NOTHING, "suspend", "upgradeStrategy"),
    **_below(f"{_HEAD}.template.spec", Effect.NOTHING, "tolerations", "schedulingGates"),
    **_below(f"{_GROUP}.template.spec", Effect.NOTHING, "tolerations", "schedulingGates"),
    # scaleStrategy has one field, workersToDelete, which is left out of the hash.
    **_below(_GROUP, Effect.NOTHING, "replicas", "minReplicas", "maxReplicas", "scaleStrategy"),
    # Of Serve that runs they change nothing; replicas that start later have the tracing.
    **_below(
        _SERVE,
        Effect.NOTHING,
        "http_options",
        "grpc_options",
        "proxy_location",
        "controller_options",
        "tracing_config",
    ),
    **_below(_SERVE, Effect.IN_PLACE, "logging_config", "target_capacity"),
    **_below(
        _APPLICATION, Effect.RELOAD_APPLICATION, "import_path", "runtime_env", "args", "autoscaling_policy"
    ),
    **_below(_APPLICATION, Effect.IN_PLACE, "route_prefix", "logging_config", "external_scaler_enabled"),
    **_below(
        _DEPLOYMENT,
        Effect.IN_PLACE,
        "num_replicas",
        "max_ongoing_requests",
        "max_queued_requests",
        "backpressure_config",
        "user_config",
        "graceful_shutdown_timeout_s",
        "graceful_shutdown_wait_loop_s",
        "health_check_period_s",
        "health_check_timeout_s",
        "logging_config",
        "rolling_update_percentage",
        "max_surge_percent",
    ),
    # An application's code version lists the policies of the deployments that scale by themselves, so it is
    # another one as soon as one of them begins or ceases to.
    f"{_DEPLOYMENT}.autoscaling_config": Effect.RELOAD_APPLICATION,
    f"{_DEPLOYMENT}.autoscaling_config.*": Effect.IN_PLACE,
    f"{_DEPLOYMENT}.autoscaling_config.policy": Effect.RELOAD_APPLICATION,
    **_below(_DEPLOYMENT, Effect.RELOAD_APPLICATION, "request_router_config", "deployment_actors"),
    **_below(_DEPLOYMENT, Effect.RELOAD, "ray_actor_options", "gang_scheduling_config"),
    # Part of a replica's version, but not of what DeploymentState.deploy compares before it looks at that.
    **_below(
        _DEPLOYMENT,
        Effect.RELOAD_WITH_NEXT,
        "max_replicas_per_node",
        "placement_group_bundles",
        "placement_group_strategy",
        "placement_group_bundle_label_selector",
    ),
}
"""Effects by place in the RayService's `spec`, as if serveConfigV2 were an object. `*` stands for any entry
of a list or any key; a place covers all below it that has no line of its own."""


def effect(path: str) -> Effect:
    """The effect of a change at a place, written as the engine does: `a.list[0].b` or `a.list[name].b`."""
    segments = re.sub(r"\[[^\]]*\]", ".*", path).split(".")
    covering = [place for place in TABLE if _covers(place.split("."), segments)]
    return TABLE[max(covering, key=_precision)] if covering else Effect.UNKNOWN


def _covers(place: Sequence[str], segments: Sequence[str]) -> bool:
    return len(place) <= len(segments) and all(
        expected in ("*", found) for expected, found in zip(place, segments, strict=False)
    )


def _precision(place: str) -> tuple[int, int]:
    segments = place.split(".")
    return len(segments), -segments.count("*")
