"""The comparison of all stacks as data: what the renderers read and `--format json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offline.diff.comparison import Changed, Comparison, compare
from offline.diff.figures import Figures, conspicuous, rise
from offline.diff.properties import PropertyChange, shown, to_json
from offline.graph import Graph, Resource, is_secret
from policy.model import Violation, from_graph
from policy.rules import Config, check


@dataclass(frozen=True, kw_only=True)
class StackReport:
    """One stack at both revisions. `notes` say what a reader must know to read the rest right."""

    stack: str
    comparison: Comparison
    before: Figures
    after: Figures
    new_violations: list[Violation]
    existing_violations: list[Violation]
    fixed_violations: list[Violation]
    notes: list[str]

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to see: the same resources, no new violation."""
        return self.comparison.empty and not self.new_violations and not self.fixed_violations

    @property
    def warnings(self) -> list[str]:
        """What a reader must not miss, one line each."""
        lines = [
            f"new policy violation, {violation.rule}: {violation.resource}: {violation.message}"
            for violation in self.new_violations
        ]
        for changed in self.comparison.new_clusters:
            cores = changed.rollout.neuron_cores if changed.rollout else None
            lines.append(
                f"a second Ray cluster for {changed.resource.name}: until it has taken over, "
                + ("the NeuronCores of both are held" if cores is None else _doubled(cores))
            )
        lines += [
            _away(changed.resource.name, changed.rollout.away)
            for changed in self.comparison.changed
            if changed.rollout and changed.rollout.away
        ]
        lines += [
            f"{changed.resource.label} is replaced: {', '.join(changed.because)}"
            for changed in self.comparison.with_action("replace")
            if changed.properties and not _disposable(changed.resource)
        ]
        if conspicuous(self.before, self.after):
            lines.append(
                f"the cost at full scale rises by {rise(self.before.cost_max, self.after.cost_max):.0%}"
            )
        lines += [
            f"{resource.label} is protected and would be deleted"
            for resource in self.comparison.removed
            if resource.protect
        ]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "stack": self.stack,
            "warnings": self.warnings,
            "added": [_resource(resource) for resource in self.comparison.added],
            "changed": [_changed(changed) for changed in self.comparison.changed],
            "removed": [_resource(resource) for resource in self.comparison.removed],
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "violations": {
                "new": [dataclasses.asdict(violation) for violation in self.new_violations],
                "existing": [dataclasses.asdict(violation) for violation in self.existing_violations],
                "fixed": [dataclasses.asdict(violation) for violation in self.fixed_violations],
            },
            "notes": self.notes,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """All stacks; `base` and `head` are the revisions in words."""

    base: str
    head: str
    stacks: list[StackReport]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"base": self.base, "head": self.head, "stacks": [stack.to_json() for stack in self.stacks]}


def stack_report(stack: str, before: Graph | None, after: Graph | None, policies: Config) -> StackReport:
    """Everything there is to say of one stack; None is a stack that a revision does not have."""
    old, new = ({_key(found): found for found in _violations(graph, policies)} for graph in (before, after))
    notes: list[str] = []
    if before is None:
        notes.append("the base has no file for this stack: everything is new")
    if after is None:
        notes.append("the head has no file for this stack: what it built stays until it is destroyed")
    if any(is_secret(value) for graph in (before, after) if graph for value in _inputs(graph)):
        notes.append("secrets are not compared: a revision is evaluated without their values")
    return StackReport(
        stack=stack,
        comparison=compare(before, after),
        before=Figures.of(before),
        after=Figures.of(after),
        new_violations=[found for key, found in new.items() if key not in old],
        existing_violations=[found for key, found in new.items() if key in old],
        fixed_violations=[found for key, found in old.items() if key not in new],
        notes=notes,
    )


def for_reading(change: PropertyChange, arrow: str, code: Callable[[str], str] = str) -> str:
    """A property change as one line."""
    line = f"{code(change.path)}: {code(shown(change.before))} {arrow} {code(shown(change.after))}"
    return f"{line} (ignored)" if change.ignored else line


def _away(service: str, deployments: list[str]) -> str:
    return (
        f"{service} may be away while it loads: of {' and '.join(deployments)} there can be one replica, "
        "and it ends before the next is ready: until then requests wait or are refused; with two, one stays"
    )


def _disposable(resource: Resource) -> bool:
    """Whether a replacement takes nothing away: a Job runs once, and what is retained stays."""
    return resource.type.endswith(":Job") or resource.retain_on_delete


def _doubled(cores: int) -> str:
    return f"{2 * cores} NeuronCores instead of {cores} are held"


def _violations(graph: Graph | None, policies: Config) -> list[Violation]:
    if graph is None:
        return []
    return check([from_graph(resource) for resource in graph.to_json()["resources"]], policies)


def _key(violation: Violation) -> tuple[str, str, str]:
    return violation.rule, violation.urn, violation.message


def _inputs(graph: Graph) -> list[Any]:
    return [value for resource in graph.resources for value in resource.inputs.values()]


def _resource(resource: Resource) -> dict[str, Any]:
    return {"urn": resource.urn, "type": resource.type, "name": resource.name}


def _changed(changed: Changed) -> dict[str, Any]:
    return {
        **_resource(changed.resource),
        "action": changed.action,
        "because": changed.because,
        "deletesFirst": changed.deletes_first,
        "properties": [_property(change) for change in changed.properties],
        "options": [_property(change) for change in changed.options],
        "rollout": dataclasses.asdict(changed.rollout) if changed.rollout else None,
    }


def _property(change: PropertyChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "before": to_json(change.before),
        "after": to_json(change.after),
        "ignored": change.ignored,
    }
