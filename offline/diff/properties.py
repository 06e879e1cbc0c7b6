"""Differences between two recorded values, property by property.

A path is written as the engine writes it (`spec.template.spec.containers[ray].image`), but entries of a list
that have names stand under these, so that an entry in the middle does not move all that follow. Text that is
JSON or YAML (IAM policies, serveConfigV2) is compared as what it says, not as one string.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from offline.graph import is_secret, is_unknown

ABSENT: Any = object()
"""Stands for the value of a property that is not there; null is a value."""

# Text in YAML by property name; JSON is recognised by its looks.
_YAML_PROPERTIES = frozenset({"serveConfigV2"})
# What names the entries of a list of objects, by preference.
_NAMES = ("name", "groupName", "key", "Sid", "deviceName", "addonName")
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class PropertyChange:
    """One property that is not the same; `before` or `after` is `ABSENT` where it comes or goes."""

    path: str
    before: Any
    after: Any
    ignored: bool = False
    """Whether the resource tells the engine to ignore changes here (`ignore_changes`)."""

    @property
    def top(self) -> str:
        """Name of the input that the property belongs to."""
        return self.path.partition(".")[0].partition("[")[0]


def changes(before: Any, after: Any, path: str = "") -> Iterator[PropertyChange]:
    """The changes that make `after` of `before`, deepest properties first to differ."""
    if _same(before, after):
        return
    before, after = _structured(path, before, after)
    if is_secret(before) or is_secret(after) or is_unknown(before) or is_unknown(after):
        yield PropertyChange(path, before, after)
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(cast("dict[str, Any]", before), cast("dict[str, Any]", after), path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(cast("list[Any]", before), cast("list[Any]", after), path)
    else:
        yield PropertyChange(path, before, after)


def shown(value: Any) -> str:
    """A value for reading: never a secret's, never without end."""
    if value is ABSENT:
        return "(none)"
    text = json.dumps(_masked(value), ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def to_json(value: Any) -> Any:
    """A value for a report in JSON; absence is an object, because null is a value."""
    return {"$absent": True} if value is ABSENT else value


def _of_objects(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[PropertyChange]:
    for key in [*before, *(key for key in after if key not in before)]:
        inner = f"{path}.{key}" if path and "." not in key and "/" not in key else key
        if path and inner == key:
            inner = f'{path}["{key}"]'
        yield from changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)


def _of_lists(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[PropertyChange]:
    name = _name_of_entries([*before, *after])
    if name is not None and _unique(before, name) and _unique(after, name):
        old = {str(entry[name]): entry for entry in before}
        new = {str(entry[name]): entry for entry in after}
        for key in [*old, *(key for key in new if key not in old)]:
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}[{key}]")
        if old.keys() == new.keys() and list(old) != list(new):
            yield PropertyChange(f"{path}.(order)", list(old), list(new))
    elif all(not isinstance(entry, dict | list) for entry in (*before, *after)):
        yield PropertyChange(path, list(before), list(after))
    else:
        for index in range(max(len(before), len(after))):
            old_entry = before[index] if index < len(before) else ABSENT
            new_entry = after[index] if index < len(after) else ABSENT
            yield from changes(old_entry, new_entry, f"{path}[{index}]")


def _name_of_entries(entries: Sequence[Any]) -> str | None:
    for name in _NAMES:
        if entries and all(isinstance(entry, dict) and isinstance(entry.get(name), str) for entry in entries):
            return name
    return None


def _unique(entries: Sequence[Any], name: str) -> bool:
    return len({entry[name] for entry in entries}) == len(entries)


def _structured(path: str, before: Any, after: Any) -> tuple[Any, Any]:
    """Both values as what their text says, if both are text of the same kind; otherwise as they are."""
    if not isinstance(before, str) or not isinstance(after, str):
        return before, after
    read = _read_yaml if path.rpartition(".")[2] in _YAML_PROPERTIES else _read_json
    old, new = read(before), read(after)
    if isinstance(old, dict | list) and type(old) is type(new) and not _same(old, new):
        return old, new
    return before, after


def _read_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _read_json(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else None
    except ValueError:
        return None


def _same(before: Any, after: Any) -> bool:
    # True is 1 to Python; to a provider they are not the same.
    return before is after or (
        before is not ABSENT and after is not ABSENT and json.dumps(before) == json.dumps(after)
    )


def _masked(value: Any) -> Any:
    if is_secret(value):
        return "(secret)"
    if is_unknown(value):
        return "(known after deployment)"
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        if set(entries) == {"$resource"}:
            return str(entries["$resource"]).rpartition("::")[2]
        return {key: _masked(entry) for key, entry in entries.items()}
    if isinstance(value, list):
        return [_masked(entry) for entry in cast("list[Any]", value)]
    return value
