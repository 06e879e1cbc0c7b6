"""Cost and NeuronCores of a revision, read from the stack's outputs `costPerHour` and `neuronCores`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from offline.graph import Graph

COST = "costPerHour"
NEURON_CORES = "neuronCores"
CONSPICUOUS_RISE = 0.2
"""Part by which the cost at full scale must rise for the report to point at it."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One revision's figures; None is unknown. Cost is per hour, `currency` as the output has it."""

    currency: str | None = None
    cost_min: float | None = None
    cost_max: float | None = None
    parts: dict[str, Any] | None = None
    unpriced: tuple[str, ...] = ()
    cores_min: int | None = None
    cores_max: int | None = None
    upgrade_peak: int | None = None

    @classmethod
    def of(cls, graph: Graph | None) -> Figures:
        """The figures of a graph; of a stack that a revision does not have, nothing is known."""
        outputs: Mapping[str, Any] = graph.outputs if graph else {}
        cost, cores = _object(outputs.get(COST)), _object(outputs.get(NEURON_CORES))
        unknown = cost.get("unknown")
        parts = cost.get("parts")
        return cls(
            currency=str(cost["currency"]) if "currency" in cost else None,
            cost_min=_number(cost.get("min")),
            cost_max=_number(cost.get("max")),
            parts=cast("dict[str, Any]", parts) if isinstance(parts, dict) else None,
            unpriced=tuple(str(name) for name in cast("list[Any]", unknown))
            if isinstance(unknown, list)
            else (),
            cores_min=_whole(cores.get("min")),
            cores_max=_whole(cores.get("max")),
            upgrade_peak=_whole(cores.get("upgradePeak")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; unknown figures are null."""
        return {
            "costPerHour": {
                "currency": self.currency,
                "min": self.cost_min,
                "max": self.cost_max,
                "parts": self.parts,
                "unknown": list(self.unpriced),
            },
            "neuronCores": {
                "min": self.cores_min,
                "max": self.cores_max,
                "upgradePeak": self.upgrade_peak,
            },
        }


def rise(before: float | None, after: float | None) -> float | None:
    """Relative change from one figure to the other, None where either is unknown or there was none."""
    if before is None or after is None or before == 0:
        return None
    return after / before - 1


def conspicuous(before: Figures, after: Figures) -> bool:
    """Whether the cost at full scale rises so much that a reader must not miss it."""
    relative = rise(before.cost_max, after.cost_max)
    return relative is not None and relative >= CONSPICUOUS_RISE


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
