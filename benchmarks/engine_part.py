"""Part `throughput`: the engine against two others, without HTTP or Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.contestants import CONTESTANTS, Running, Setting, SlotContestant
from benchmarks.settings import Settings
from benchmarks.workload import (
    Arrival,
    Load,
    alternate,
    median_of_ratios,
    percentile,
)
from serve_apps.llm.args import DType

# (clients, arrival, sampled): greedy bursts of every size, then what else changes the picture.
_LOADS: list[tuple[int, Arrival, bool]] = [
    (1, "burst", False),
    (8, "burst", False),
    (16, "burst", False),
    (8, "closed loop", False),
    (8, "burst", True),
]
_QUICK_LOADS = [_LOADS[1]]


async def throughput(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """One row for each dtype, load and contestant, with the ratios of ours to theirs."""
    for dtype in settings.dtypes:
        for sampled in (False, True):
            loads = [load for load in (_QUICK_LOADS if settings.quick else _LOADS) if load[2] == sampled]
            if loads:
                for row in await _compare(settings, dtype, sampled, [load[:2] for load in loads]):
                    yield row


async def _compare(
    settings: Settings, dtype: DType, sampled: bool, loads: list[tuple[int, Arrival]]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        setting = Setting(settings.model_dir, dtype, settings.threads, sampled)
        contestants = {
            kind.name: await stack.enter_async_context(Running(kind, setting)) for kind in CONTESTANTS
        }
        for clients, arrival in loads:
            settings.progress(f"throughput: {dtype}, {clients} clients, {arrival}, sampled={sampled}")

            async def measure(name: str, clients: int = clients, arrival: Arrival = arrival) -> Load:
                return await contestants[name].measure(clients, arrival)

            measured = await alternate(list(contestants), settings.alternations, measure)
            shared = {"dtype": dtype, "clients": clients, "arrival": arrival, "sampled": sampled}
            rows += [shared | row for row in _rows(measured)]
    return rows


def _rows(measured: dict[str, list[Load]]) -> list[dict[str, Any]]:
    summaries = {name: [load.summary() for load in loads] for name, loads in measured.items()}
    ours = summaries[SlotContestant.name]
    rows: list[dict[str, Any]] = []
    for name, theirs in summaries.items():

        def ratio(figure: str, theirs: list[dict[str, float]] = theirs) -> float:
            return median_of_ratios([row[figure] for row in ours], [row[figure] for row in theirs])

        medians = {figure: percentile([row[figure] for row in theirs], 50) for figure in theirs[0]}
        ratios = {
            "throughput_ratio": ratio("tokens_per_s"),
            "ttft_p50_ratio": ratio("ttft_p50_s"),
            "ttft_p95_ratio": ratio("ttft_p95_s"),
        }
        rows.append({"who": name, **medians, **ratios, "alternations": len(theirs), "each": theirs})
    return rows
