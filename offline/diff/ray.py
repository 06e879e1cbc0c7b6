"""What a changed RayService means for what runs, property by property, as `workloads.effects` has it.

Here two states are only compared. What the table cannot know stands beside: what else changes at once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from offline.diff.properties import ABSENT, PropertyChange, changes
from offline.graph import Resource
from workloads.effects import Effect, effect

RAY_SERVICE = "kubernetes:ray.io/v1:RayService"

_CLUSTER = "rayClusterConfig"
_SERVE = "serveConfigV2"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What an update of a RayService does to what runs.

    `new_cluster` are the properties that make KubeRay prepare a second cluster. `reloads` and `in_place` are
    properties by `APPLICATION` or `APPLICATION/DEPLOYMENT`, `serveConfigV2` for those of all. `operator` are
    those that the operator alone looks at, `nothing` those that nothing that runs takes over, `unknown` those
    with an effect that the sources do not tell. `neuron_cores` is what a second cluster asks for at first,
    None if that is unknown.
    """

    new_cluster: list[str] = field(default_factory=list[str])
    reloads: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    in_place: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    operator: list[str] = field(default_factory=list[str])
    nothing: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])
    neuron_cores: int | None = None
    upgrade_disabled: bool = False
    """Whether `upgradeStrategy: None` keeps a second cluster from being made at all."""
    away: list[str] = field(default_factory=list[str])
    """Deployments that have a single replica, which ends before the one with the change is loaded."""

    @property
    def second_cluster(self) -> bool:
        """Whether a second cluster is made, which everything else of the change comes with."""
        return bool(self.new_cluster) and not self.upgrade_disabled


def rollout(before: Resource, after: Resource) -> Rollout:
    """The effect of an update of a RayService from one recorded state to the other."""
    old, new = _spec(before), _spec(after)
    old_serve, new_serve = _serve(old), _serve(new)
    disabled = _object(new.get("upgradeStrategy")).get("type") == "None"
    result = Rollout(neuron_cores=_neuron_cores(new), upgrade_disabled=disabled)
    _appended_groups(old, new, result)
    for change in changes(old, new):
        _sort(effect(change.path), "spec", change.path, result)
    _serve_changes(old_serve, new_serve, result)
    return result


def _appended_groups(before: dict[str, Any], after: dict[str, Any], result: Rollout) -> None:
    """Worker groups that come after those there were are added to the running cluster, if all else is equal.

    isClusterSpecHashEqual with `partial`, in ray-operator/controllers/ray/rayservice_controller.go, v1.7.0.
    """
    groups = _groups(before)
    added = _groups(after)[len(groups) :]
    if added:
        _object(after[_CLUSTER])["workerGroupSpecs"] = _groups(after)[: len(groups)]
        names = [f"workerGroupSpecs[{_object(group).get('groupName')}]" for group in added]
        result.in_place[_CLUSTER] = names


def _serve_changes(before: dict[str, Any], after: dict[str, Any], result: Rollout) -> None:
    old, new = _by_name(before.pop("applications", [])), _by_name(after.pop("applications", []))
    for change in changes(before, after):
        _sort(effect(f"{_SERVE}.{change.path}"), _SERVE, change.path, result)
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
        found = effect(f"{_SERVE}.applications[*].{change.path}")
        _sort(found, application, change.path, result)
    for name in sorted(deployments[0].keys() | deployments[1].keys()):
        old, new = (_options(side.get(name)) for side in deployments)
        _deployment_changes(application, name, list(changes(old, new)), result)
    if not result.second_cluster:
        owners = {f"{application}/{name}": options for name, options in deployments[0].items()}
        reloading = owners.keys() if application in result.reloads else owners.keys() & result.reloads.keys()
        result.away.extend(owner for owner in owners if owner in reloading and _ends_first(owners[owner]))


def _deployment_changes(
    application: str, name: str, changed: Sequence[PropertyChange], result: Rollout
) -> None:
    owner = f"{application}/{name}"
    effects = [effect(f"{_SERVE}.applications[*].deployments[*].{change.path}") for change in changed]
    alone = all(found is Effect.RELOAD_WITH_NEXT for found in effects)
    for change, found in zip(changed, effects, strict=True):
        if found is Effect.RELOAD_APPLICATION:
            _sort(found, application, f"{name}.{change.path}", result)
        elif found is Effect.RELOAD_WITH_NEXT and alone and ABSENT not in (change.before, change.after):
            _sort(Effect.NOTHING, owner, change.path, result)
        else:
            _sort(found, owner, change.path, result)


def _sort(found: Effect, owner: str, path: str, result: Rollout) -> None:
    if found in (Effect.RELOAD, Effect.RELOAD_WITH_NEXT, Effect.RELOAD_APPLICATION):
        result.reloads.setdefault(owner, []).append(path)
    elif found is Effect.IN_PLACE:
        result.in_place.setdefault(owner, []).append(path)
    else:
        lists = {
            Effect.SECOND_CLUSTER: result.new_cluster,
            Effect.OPERATOR: result.operator,
            Effect.NOTHING: result.nothing,
        }
        lists.get(found, result.unknown).append(f"{owner}.{path}")


def _ends_first(options: dict[str, Any]) -> bool:
    """Whether a deployment may have one replica, and it ends before another one starts.

    Without `max_surge_percent` Serve stops an old replica first (ray/serve/_private/config.py, Ray 2.60). Of
    options that say nothing of replicas nothing is known: the code may.
    """
    scaling = options.get("autoscaling_config")
    fewest = _object(scaling).get("min_replicas", 1) if scaling else options.get("num_replicas")
    return fewest == 1 and not options.get("max_surge_percent")


def _options(options: Any) -> dict[str, Any]:
    # `num_replicas: 2` and the absence of a deployment are not compared: an absent one has no options.
    return {key: value for key, value in _object(options).items() if key != "name"}


def _neuron_cores(spec: dict[str, Any]) -> int | None:
    total = 0
    for group in _groups(spec):
        cores = _object(_object(group).get("resources")).get("neuron_cores", "0")
        replicas = _object(group).get("replicas", ABSENT)
        if not isinstance(replicas, int) or not isinstance(cores, str) or not cores.isdigit():
            return None
        total += replicas * int(cores)
    return total


def _groups(spec: dict[str, Any]) -> list[Any]:
    return cast("list[Any]", _object(spec.get(_CLUSTER)).get("workerGroupSpecs") or [])


def _spec(service: Resource) -> dict[str, Any]:
    return copy.deepcopy(_object(service.inputs.get("spec")))


def _serve(spec: dict[str, Any]) -> dict[str, Any]:
    """The Serve config of a spec, which is taken out of it."""
    text = spec.pop(_SERVE, None)
    try:
        return _object(yaml.safe_load(text)) if isinstance(text, str) else {}
    except yaml.YAMLError:
        return {}


def _by_name(entries: Any) -> dict[str, dict[str, Any]]:
    return {str(_object(entry).get("name")): _object(entry) for entry in entries or []}


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
