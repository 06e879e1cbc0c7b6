"""Which property changes make the engine replace a resource: looked up in replacement.yaml, never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from offline.diff.properties import ABSENT, PropertyChange
from offline.graph import Resource

_DATA = Path(__file__).with_name("replacement.yaml")
_ANY_KUBERNETES = "kubernetes:*"
_EVERYTHING = "*"


class Verdict(Enum):
    """What an update of one property does to its resource."""

    UPDATES = "updates"
    REPLACES = "replaces"
    DEPENDS = "depends"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class TypeRules:
    """What is known of a resource type; see the head of replacement.yaml for the fields."""

    source: str
    name: str | None = None
    replaces: list[str] = field(default_factory=list[str])
    updates: list[str] = field(default_factory=list[str])
    appears: list[str] = field(default_factory=list[str])
    depends: dict[str, str] = field(default_factory=dict[str, str])

    def verdict(self, change: PropertyChange) -> tuple[Verdict, str | None]:
        """What the change does, and for `DEPENDS` on what it depends."""
        path = _without_indices(change.path)
        matches = [
            (len(known), verdict, reason)
            for known, verdict, reason in self._known(change)
            if known == _EVERYTHING or path == known or path.startswith(f"{known}.")
        ]
        # A whole that changes at once (an object that comes or goes) may hold parts that replace.
        if any(known.startswith(f"{path}.") for known in self.replaces):
            matches.append((len(path), Verdict.REPLACES, None))
        if not matches:
            return Verdict.UNKNOWN, None
        _, verdict, reason = max(matches, key=lambda match: match[0])
        return verdict, reason

    def verdict_of_any_change(self, name: str) -> Verdict:
        """What a new value of an input does, wherever in it the difference lies."""
        if any(path.startswith(f"{name}.") for path in (*self.replaces, *self.depends)):
            return Verdict.UNKNOWN
        return self.verdict(PropertyChange(name, "before", "after"))[0]

    def _known(self, change: PropertyChange) -> list[tuple[str, Verdict, str | None]]:
        comes_or_goes = change.before is ABSENT or change.after is ABSENT
        appears = Verdict.REPLACES if comes_or_goes else Verdict.UPDATES
        return [
            *((path, Verdict.REPLACES, None) for path in self.replaces),
            *((path, Verdict.UPDATES, None) for path in self.updates),
            *((path, appears, None) for path in self.appears),
            *((path, Verdict.DEPENDS, reason) for path, reason in self.depends.items()),
        ]


@cache
def all_rules() -> dict[str, TypeRules]:
    """The contents of replacement.yaml by resource type."""
    data = cast("dict[str, dict[str, Any]]", yaml.safe_load(_DATA.read_text(encoding="utf-8")))
    return {type_: TypeRules(**rules) for type_, rules in data.items()}


def rules_for(type_: str) -> TypeRules | None:
    """What is known of a type, None if nothing is."""
    rules = all_rules()
    if type_ in rules:
        return rules[type_]
    return rules[_ANY_KUBERNETES] if type_.startswith("kubernetes:") else None


def deletes_first(before: Resource, after: Resource) -> bool | None:
    """Whether the old resource goes before the new one comes; None if that is not known.

    A resource with a fixed name that stays cannot be there twice, and a program can ask for either order.
    """
    if after.delete_before_replace is not None:
        return after.delete_before_replace
    rules = rules_for(after.type)
    if rules is None:
        return None
    if rules.name is None:
        return False
    paths = (
        [rules.name] if not after.type.startswith("kubernetes:") else ["metadata.name", "metadata.namespace"]
    )
    if _at(after.inputs, rules.name) is None:
        return False
    if not after.type.startswith("kubernetes:"):
        return True
    return all(_at(before.inputs, path) == _at(after.inputs, path) for path in paths)


def _at(inputs: dict[str, Any], path: str) -> Any:
    value: Any = inputs
    for key in path.split("."):
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return value


def _without_indices(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", path)
