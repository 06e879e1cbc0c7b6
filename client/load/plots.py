"""The figures as pictures: distributions, and how they went over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from client.load.record import Record


def save_plots(records: Sequence[Record], directory: Path) -> list[Path]:
    """Write `distributions.png` and `over-time.png`; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / "distributions.png", directory / "over-time.png"]
    _distributions(records, files[0])
    _over_time(records, files[1])
    return files


def _distributions(records: Sequence[Record], file: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = {
        "time to first token": [record.ttft_s for record in records if record.ok],
        "between tokens": [record.inter_token_s for record in records if record.ok],
        "whole answer": [record.latency_s for record in records if record.ok],
    }
    for panel, (title, seconds) in zip(axes, panels.items(), strict=True):
        values = sorted(value * 1000 for value in seconds if value is not None)
        if values:
            panel.ecdf(values)
        panel.set(title=title, xlabel="milliseconds", ylabel="share of answers", ylim=(0, 1))
        panel.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def _over_time(records: Sequence[Record], file: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    panel = figure.subplots()
    answered = [(r.intended_s, r.ttft_s) for r in records if r.ok and r.ttft_s is not None]
    failed = [record.intended_s for record in records if not record.ok]
    panel.scatter(
        [at_s for at_s, _ in answered], [ttft_s * 1000 for _, ttft_s in answered], s=6, label="answered"
    )
    if failed:
        panel.scatter(failed, [0.0] * len(failed), s=16, marker="x", color="tab:red", label="failed")
    panel.set(xlabel="seconds since the start", ylabel="time to first token, milliseconds")
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper left")
    panel.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
