"""What `make chaos` leaves behind: the table and the picture of docs/high-availability.md."""

from __future__ import annotations

import math
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil
import ray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline.ha.store import find_server
from tests.ha.experiment import Outcome
from tests.ha.scenarios import SCENARIOS, Scenario

COLUMNS = (
    "scenario",
    "app",
    "promise",
    "requests lost",
    "streams lost",
    "refused",
    "median, longest",
    "tokens/s",
    "also",
)
_BEGIN, _END = "<!-- make chaos -->", "<!-- end -->"
_GREEN, _RED, _GREY = "#0f766e", "#dc2626", "#64748b"


def cells(scenario: Scenario, outcome: Outcome) -> list[str]:
    """A row of the table."""
    unary, streams = outcome.of("unary"), outcome.of("stream")
    lost_unary = len(outcome.of("unary", "failed", "broken"))
    lost_streams = len(outcome.of("stream", "failed", "broken"))
    refused = sum(record.outcome == "refused" for record in outcome.records)
    return [
        scenario.name,
        scenario.app,
        scenario.promise + ("" if not outcome.findings else " **(broken)**"),
        f"{lost_unary} of {len(unary):,}",
        f"{lost_streams} of {len(streams):,}" if streams else "",
        f"{refused:,}" if refused else "",
        f"{outcome.latency_s(0.5):.2f}, {outcome.latency_s(1):.1f} s",
        f"{outcome.tokens_per_s:.0f}",
        "; ".join(f"{name} {value}" for name, value in outcome.figures.items()),
    ]


def write_document(document: Path, played: Mapping[str, Outcome], *, separate_hosts: bool) -> None:
    """Put the table between the marks of the document."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [cells(SCENARIOS[name], outcome) for name, outcome in played.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    text = f"{_BEGIN}\n{table}\n\n{_machine(separate_hosts=separate_hosts)}\n{_END}"
    whole = document.read_text()
    pattern = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(f"{document}: the marks {_BEGIN} and {_END} are missing")
    document.write_text(pattern.sub(lambda _: text, whole))


def draw(file: Path, with_store: Outcome, without: Outcome) -> None:
    """Requests a second, answered and lost, around the death of a head: with a store and without."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1)
    _timeline(above, with_store, "state of the head in Redis")
    _timeline(below, without, "no store")
    below.set_xlabel("seconds since the head was killed")
    handles, labels = below.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def _timeline(axes: Axes, outcome: Outcome, title: str) -> None:
    killed = outcome.at("head killed")
    last = max(record.ended for record in outcome.records) - killed
    seconds = range(-3, int(last))
    for outcomes, color, label in (
        (("ok",), _GREEN, "answered"),
        (("failed", "broken", "refused"), _RED, "lost"),
    ):
        found = [r for o in outcomes for r in outcome.records if r.outcome == o]
        count = Counter(math.floor(record.ended - killed) for record in found)
        axes.step(seconds, [count[second] for second in seconds], where="post", color=color, label=label)
    for when, what in outcome.marks:
        if what in ("head killed", "head starts", "recovered"):
            axes.axvline(when - killed, color=_GREY, linewidth=0.8, linestyle=":")
            axes.annotate(what, (when - killed, 1), xycoords=("data", "axes fraction"), fontsize=8, va="top")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _machine(*, separate_hosts: bool) -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", server)
    name = Path(find_server()).name.removesuffix("-server").capitalize()
    hosts = "every node in namespaces of its own" if separate_hosts else "all nodes on one host"
    return (
        f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores and {memory_gib:.0f} GiB for everything, "
        f"clients included; Ray {ray.__version__}, {name} {found[1] if found else 'of unknown version'}, "
        f"Python {platform.python_version()}; {hosts}."
    )
