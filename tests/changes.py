"""A RayService's spec with one place changed: every place that it has, and places that it could have."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

Path = tuple[str | int, ...]

# Another value where not just any would do.
_OTHERS: dict[Any, Any] = {
    503: 429,
    100: 50,
    "EveryNode": "HeadOnly",
    "JSON": "TEXT",
}


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The places of all values that are neither objects nor lists with something in them."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from leaves(entry, (*path, key))
    elif isinstance(value, list) and value:
        for index, entry in enumerate(value):
            yield from leaves(entry, (*path, index))
    else:
        yield path


def at(spec: Any, path: Path) -> Any:
    """The value at a place."""
    for key in path:
        spec = spec[key]
    return spec


def put(spec: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a place, which need not be there yet."""
    changed = deepcopy(spec)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def other(value: Any) -> Any:
    """A value that is not the same, of the same type; for none at all a number."""
    if value is None:
        return 7
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return _OTHERS.get(value, value + 1)
    if isinstance(value, str):
        return _OTHERS.get(value, f"{value}x")
    return [*value, "x"] if isinstance(value, list) else {**value, "x": "x"}


def written(path: Path) -> str:
    """A place as the engine writes it."""
    parts = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in path]
    return "".join(parts).removeprefix(".")
