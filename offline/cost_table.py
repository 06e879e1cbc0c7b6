"""The stack output `costPerHour` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def cost_table(cost: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table: each part at replicas.min and at replicas.max, their sum, and what is unknown."""
    width = max(len(part) for part in [*cost["parts"], "total"])
    yield f"cost an hour, {cost['currency']}, at list prices, without traffic and disks"
    yield _row("", "replicas.min", "replicas.max", width)
    for part, amounts in cost["parts"].items():
        yield _row(part, _amount(amounts["min"]), _amount(amounts["max"]), width)
    known = {
        bound: sum(amounts[bound] or 0.0 for amounts in cost["parts"].values()) for bound in ("min", "max")
    }
    yield _row("total", _total(cost["min"], known["min"]), _total(cost["max"], known["max"]), width)
    for reason in cost["unknown"]:
        yield f"  unknown: {reason}"


def _row(part: str, at_min: str, at_max: str, width: int) -> str:
    return f"  {part:<{width}}  {at_min:>16}  {at_max:>16}"


def _amount(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.3f}"


def _total(amount: float | None, known: float) -> str:
    return f"more than {known:.3f}" if amount is None else f"{amount:.3f}"
