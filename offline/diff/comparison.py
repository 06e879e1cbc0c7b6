"""Two graphs of a stack side by side: what is added, removed and changed, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from offline.diff.properties import ABSENT, PropertyChange, changes
from offline.diff.ray import RAY_SERVICE, Rollout, rollout
from offline.diff.replacement import Verdict, deletes_first, rules_for
from offline.graph import Graph, Resource

Action = Literal["update", "replace", "unknown", "state only", "none"]

# Options that the engine and the provider look at, and those that only order or remember.
_OPTIONS = (
    "protect",
    "retain_on_delete",
    "delete_before_replace",
    "deleted_with",
    "replace_with",
    "ignore_changes",
    "replace_on_changes",
    "additional_secret_outputs",
    "custom_timeouts",
    "import_id",
    "version",
    "provider",
    "dependencies",
)

_GRAVEST_FIRST: tuple[Action, ...] = ("replace", "unknown", "update", "state only", "none")
_ACTIONS: dict[Verdict, Action] = {Verdict.REPLACES: "replace", Verdict.UPDATES: "update"}


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A resource that both revisions have and that is not the same.

    `because` names what triggers a replacement, or keeps the effect from being known. `deletes_first` is the
    order of a replacement, None if it is not known.
    """

    resource: Resource
    properties: list[PropertyChange]
    options: list[PropertyChange]
    action: Action
    because: list[str] = field(default_factory=list[str])
    deletes_first: bool | None = None
    rollout: Rollout | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What distinguishes the head's graph from the base's, in the order of registration."""

    added: list[Resource]
    changed: list[Changed]
    removed: list[Resource]

    @property
    def empty(self) -> bool:
        """Whether the two register the same."""
        return not (self.added or self.changed or self.removed)

    def with_action(self, action: Action) -> list[Changed]:
        """Changed resources with which the engine does this."""
        return [changed for changed in self.changed if changed.action == action]

    @property
    def new_clusters(self) -> list[Changed]:
        """RayServices for which a second Ray cluster is made."""
        return [changed for changed in self.changed if changed.rollout and changed.rollout.second_cluster]


def compare(before: Graph | None, after: Graph | None) -> Comparison:
    """The comparison; None stands for a stack that a revision does not have."""
    old = {resource.urn: resource for resource in before.resources} if before else {}
    new = {resource.urn: resource for resource in after.resources} if after else {}
    pairs = {urn: old[match] for urn, resource in new.items() if (match := _match(resource, old))}
    kept = {resource.urn for resource in pairs.values()}
    changed = {
        urn: found
        for urn, resource in new.items()
        if urn in pairs and (found := _changed(pairs[urn], resource))
    }
    if after:
        _follow(after, pairs, changed)
    return Comparison(
        added=[resource for urn, resource in new.items() if urn not in pairs],
        changed=[changed[urn] for urn in new if urn in changed],
        removed=[resource for urn, resource in old.items() if urn not in kept],
    )


def _match(resource: Resource, old: dict[str, Resource]) -> str | None:
    """URN under which the base has the resource: its own, or one of its aliases."""
    if resource.urn in old:
        return resource.urn
    aliases = [alias for alias in resource.aliases if isinstance(alias, str)]
    aliases += [
        f"{resource.urn.rpartition('::')[0]}::{alias['name']}"
        for alias in resource.aliases
        if isinstance(alias, dict) and set(alias) == {"name"}
    ]
    return next((alias for alias in aliases if alias in old), None)


def _changed(before: Resource, after: Resource) -> Changed | None:
    ignored = after.ignore_changes
    properties = [
        replace(change, ignored=any(_below(change.path, path) for path in ignored))
        for change in changes(before.inputs, after.inputs)
    ]
    options = list(_option_changes(before, after))
    if not properties and not options:
        return None
    action, because = _action(after, properties, options)
    service = after.type == RAY_SERVICE and any(not change.ignored for change in properties)
    return Changed(
        resource=after,
        properties=properties,
        options=options,
        action=action,
        because=because,
        deletes_first=deletes_first(before, after) if action == "replace" else None,
        rollout=rollout(before, after) if service and action == "update" else None,
    )


def _option_changes(before: Resource, after: Resource) -> Iterator[PropertyChange]:
    for option in _OPTIONS:
        old, new = (getattr(side, option) for side in (before, after))
        if old != new:
            yield PropertyChange(f"options.{option}", _absent_if_unset(old), _absent_if_unset(new))


def _absent_if_unset(value: Any) -> Any:
    return ABSENT if value in (None, [], False) else value


def _action(
    resource: Resource, properties: list[PropertyChange], options: list[PropertyChange]
) -> tuple[Action, list[str]]:
    effective = [change for change in properties if not change.ignored]
    if not effective:
        return ("state only" if options else "none"), []
    if not resource.custom and not resource.remote:
        return "state only", []
    forced = [
        change.path
        for change in effective
        if any(_below(change.path, path) for path in resource.replace_on_changes)
    ]
    rules = rules_for(resource.type)
    if rules is None:
        if forced:
            return "replace", forced
        return "unknown", [f"nothing is known of {resource.type}"]
    verdicts = [(change.path, *rules.verdict(change)) for change in effective]
    replacing = [path for path, verdict, _ in verdicts if verdict is Verdict.REPLACES]
    if forced or replacing:
        return "replace", sorted({*forced, *replacing})
    doubts = [
        f"{path} {reason}" if reason else f"the effect of {path} is not known"
        for path, verdict, reason in verdicts
        if verdict in (Verdict.DEPENDS, Verdict.UNKNOWN)
    ]
    return ("unknown", doubts) if doubts else ("update", [])


def _follow(after: Graph, pairs: dict[str, Resource], changed: dict[str, Changed]) -> None:
    """What follows from replacements: the values that a replaced resource hands on are others then.

    Registration order is an order of dependency, so one pass sees every cause before its effects.
    """
    for resource in after.resources:
        known = changed.get(resource.urn)
        if resource.urn not in pairs or _replaced(known):
            continue
        effects = list(_effects(resource, changed))
        if not effects:
            continue
        actions: list[Action] = [effect for effect, _ in effects]
        if known:
            actions.append(known.action)
        action = min(actions, key=_GRAVEST_FIRST.index)
        causes = [cause for effect, cause in effects if effect == action]
        changed[resource.urn] = Changed(
            resource=resource,
            properties=known.properties if known else [],
            options=known.options if known else [],
            action=action,
            because=[*(known.because if known and known.action == action else []), *causes],
            deletes_first=deletes_first(pairs[resource.urn], resource) if action == "replace" else None,
            rollout=known.rollout if known and action == known.action else None,
        )


def _effects(resource: Resource, changed: dict[str, Changed]) -> Iterator[tuple[Action, str]]:
    if resource.provider and _replaced(changed.get(resource.provider)):
        yield "replace", f"its provider {changed[resource.provider].resource.label} is replaced"
    rules = rules_for(resource.type)
    for name, urns in resource.property_dependencies.items():
        causes = [changed[urn] for urn in urns if _replaced(changed.get(urn))]
        # A resource that is deleted first keeps its name, and with it the values that others take from it.
        causes = [cause for cause in causes if not cause.deletes_first]
        if not causes or name in resource.ignore_changes:
            continue
        verdict = rules.verdict_of_any_change(name) if rules else Verdict.UNKNOWN
        labels = ", ".join(cause.resource.label for cause in causes)
        yield _ACTIONS.get(verdict, "unknown"), f"{name} comes from what is replaced: {labels}"


def _replaced(changed: Changed | None) -> bool:
    return changed is not None and changed.action == "replace"


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))
