"""What a changed RayService means for what runs: a new Ray cluster, replicas that reload, or neither.

Two parties decide. KubeRay hashes the cluster's specification without a few fields and prepares a second
cluster where the hash differs; traffic moves when that serves, and until then both hold their NeuronCores.
https://github.com/ray-project/kuberay/blob/v1.7.0/ray-operator/controllers/ray/utils/util.go
(GenerateHashWithoutReplicasAndWorkersToDelete) and ray-operator/controllers/ray/rayservice_controller.go
(isClusterSpecHashEqual, shouldPrepareNewCluster, rayClusterSpecForHashing), looked up 2026-11.

Ray Serve compares an application's code version and each deployment's options with those that run, and
replaces replicas, reconfigures them in place or does nothing to them: `ray.serve._private` of Ray 2.60, in
deploy_utils.get_app_code_version, version.DeploymentVersion and the `update_type` of config.DeploymentConfig.
A test holds the tables below against the installed Ray.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from offline.diff.properties import ABSENT, PropertyChange, changes
from offline.graph import Resource

RAY_SERVICE = "kubernetes:ray.io/v1:RayService"

# Fields of an application that are its code version: a change replaces every replica of it.
APPLICATION_CODE = frozenset({"import_path", "runtime_env", "args", "autoscaling_policy"})
# The same, of each deployment.
DEPLOYMENTS_CODE = frozenset({"request_router_config", "deployment_actors"})
# Options of a deployment that replace its replicas.
RELOADING = frozenset(
    {
        "ray_actor_options",
        "placement_group_bundles",
        "placement_group_strategy",
        "placement_group_bundle_label_selector",
        "max_replicas_per_node",
        "gang_scheduling_config",
    }
)
# Options that replicas take over while they serve (`reconfigure`, or the controller alone).
IN_PLACE = frozenset(
    {
        "num_replicas",
        "max_ongoing_requests",
        "max_queued_requests",
        "backpressure_config",
        "user_config",
        "graceful_shutdown_timeout_s",
        "graceful_shutdown_wait_loop_s",
        "health_check_period_s",
        "health_check_timeout_s",
        "autoscaling_config",
        "logging_config",
        "rolling_update_percentage",
        "max_surge_percent",
    }
)
# Fields of an application that change in place.
APPLICATION_IN_PLACE = frozenset({"route_prefix", "logging_config", "external_scaler_enabled"})

# What KubeRay leaves out of the hash, for the head and for every worker group.
_UNHASHED_POD = ("tolerations", "schedulingGates")
_UNHASHED_GROUP = ("replicas", "minReplicas", "maxReplicas")
_UNHASHED_CLUSTER = ("suspend", "upgradeStrategy")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What an update of a RayService does to what runs.

    `new_cluster` are the properties that make KubeRay prepare a second cluster. `reloads` and `in_place` are
    properties by `APPLICATION` or `APPLICATION/DEPLOYMENT`; `unknown` are those with an effect that the
    sources do not tell. `neuron_cores` is what the second cluster asks for at first, None if that is unknown.
    """

    new_cluster: list[str] = field(default_factory=list[str])
    reloads: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    in_place: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    unknown: list[str] = field(default_factory=list[str])
    neuron_cores: int | None = None
    upgrade_disabled: bool = False
    """Whether `upgradeStrategy: None` keeps the changed cluster from being made at all."""


def rollout(before: Resource, after: Resource) -> Rollout:
    """The effect of an update of a RayService from one recorded state to the other."""
    old, new = _spec(before), _spec(after)
    hashed = list(_cluster_changes(old.get("rayClusterConfig"), new.get("rayClusterConfig")))
    disabled = _object(new.get("upgradeStrategy")).get("type") == "None"
    result = Rollout(
        new_cluster=[f"spec.rayClusterConfig.{change.path}" for change in hashed],
        neuron_cores=_neuron_cores(new) if hashed else None,
        upgrade_disabled=bool(hashed) and disabled,
    )
    _serve_changes(_serve(old), _serve(new), result)
    return result


def _cluster_changes(before: Any, after: Any) -> Iterator[PropertyChange]:
    old, new = _hashed(before), _hashed(after)
    # Worker groups that come after those there were are added to the running cluster.
    groups = len(cast("list[Any]", old.get("workerGroupSpecs", [])))
    new["workerGroupSpecs"] = cast("list[Any]", new.get("workerGroupSpecs", []))[:groups]
    old.setdefault("workerGroupSpecs", [])
    yield from changes(old, new)


def _hashed(cluster: Any) -> dict[str, Any]:
    spec = _object(copy.deepcopy(cluster))
    for key in _UNHASHED_CLUSTER:
        spec.pop(key, None)
    groups = [_object(group) for group in spec.get("workerGroupSpecs", [])]
    for group in groups:
        for key in _UNHASHED_GROUP:
            group.pop(key, None)
        _object(group.get("scaleStrategy")).pop("workersToDelete", None)
    for group in (_object(spec.get("headGroupSpec")), *groups):
        pod = _object(_object(group.get("template")).get("spec"))
        for key in _UNHASHED_POD:
            pod.pop(key, None)
    return spec


def _serve_changes(before: dict[str, Any], after: dict[str, Any], result: Rollout) -> None:
    old, new = _by_name(before.pop("applications", [])), _by_name(after.pop("applications", []))
    result.unknown.extend(f"serveConfigV2.{change.path}" for change in changes(before, after))
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in old:
            result.reloads[name] = ["new application"]
        elif name not in new:
            result.reloads[name] = ["application removed"]
        else:
            _application_changes(name, old[name], new[name], result)


def _application_changes(
    application: str, before: dict[str, Any], after: dict[str, Any], result: Rollout
) -> None:
    deployments = _by_name(before.pop("deployments", [])), _by_name(after.pop("deployments", []))
    for change in changes(before, after):
        _sort(change, application, (APPLICATION_CODE, APPLICATION_IN_PLACE), result)
    for name in sorted(deployments[0].keys() | deployments[1].keys()):
        old, new = (_deployment(side.get(name)) for side in deployments)
        for change in changes(old, new):
            if change.top in DEPLOYMENTS_CODE or change.path.startswith("autoscaling_config.policy"):
                result.reloads.setdefault(application, []).append(f"{name}.{change.path}")
            else:
                _sort(change, f"{application}/{name}", (RELOADING, IN_PLACE), result)


def _sort(
    change: PropertyChange, owner: str, kinds: tuple[frozenset[str], frozenset[str]], result: Rollout
) -> None:
    reloading, in_place = kinds
    if change.top in reloading:
        result.reloads.setdefault(owner, []).append(change.path)
    elif change.top in in_place:
        result.in_place.setdefault(owner, []).append(change.path)
    else:
        result.unknown.append(f"{owner}: {change.path}")


def _deployment(options: Any) -> dict[str, Any]:
    # `num_replicas: 2` and the absence of a deployment are not compared: an absent one has no options.
    return {key: value for key, value in _object(options).items() if key != "name"}


def _neuron_cores(spec: dict[str, Any]) -> int | None:
    total = 0
    for group in _object(spec.get("rayClusterConfig")).get("workerGroupSpecs", []):
        cores = _object(_object(group).get("resources")).get("neuron_cores", "0")
        replicas = _object(group).get("replicas", ABSENT)
        if not isinstance(replicas, int) or not isinstance(cores, str) or not cores.isdigit():
            return None
        total += replicas * int(cores)
    return total


def _spec(service: Resource) -> dict[str, Any]:
    return copy.deepcopy(_object(service.inputs.get("spec")))


def _serve(spec: dict[str, Any]) -> dict[str, Any]:
    text = spec.get("serveConfigV2")
    try:
        return _object(yaml.safe_load(text)) if isinstance(text, str) else {}
    except yaml.YAMLError:
        return {}


def _by_name(entries: Any) -> dict[str, dict[str, Any]]:
    return {str(_object(entry).get("name")): _object(entry) for entry in entries or []}


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
