"""One scenario under load: what was done when, what every client saw, and what follows from it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from offline.ha.cluster import HaCluster
from offline.ha.spares import WORKERS
from tests.ha.load import Record
from tests.ha.service import MODEL

ROOT = Path(__file__).parents[2]
_POLL_S = 0.5
# Many times what it takes on two cores of one's own.
_PATIENCE_S = 400.0


@dataclass(frozen=True)
class Load:
    """What clients ask; see `tests.ha.load`."""

    rate: float = 12.0
    clients: int = 0
    streams: int = 2
    tokens: int = 8
    stream_tokens: int = 200

    def arguments(self) -> list[str]:
        """For the program."""
        values = {"rate": self.rate, "clients": self.clients, "streams": self.streams}
        values |= {"tokens": self.tokens, "stream-tokens": self.stream_tokens}
        return [text for name, value in values.items() for text in (f"--{name}", str(value))]


@dataclass
class Outcome:
    """`marks` are what was done and seen, by Unix time; `figures` what the scenario measured itself."""

    records: list[Record] = field(default_factory=list[Record])
    marks: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    figures: dict[str, str] = field(default_factory=dict[str, str])
    findings: list[str] = field(default_factory=list[str])

    def of(self, kind: str, *outcomes: str) -> list[Record]:
        """Records of a kind, unary or stream, with one of the outcomes (all, if none is named)."""
        return [r for r in self.records if r.kind == kind and (not outcomes or r.outcome in outcomes)]

    @property
    def lost(self) -> list[Record]:
        """Requests that got neither an answer nor a refusal that says when to come back."""
        return [record for record in self.records if record.outcome in ("failed", "broken")]

    @property
    def tokens_per_s(self) -> float:
        """Over the whole time."""
        if not self.records:
            return 0.0
        took = max(r.ended for r in self.records) - min(r.began for r in self.records)
        return sum(r.tokens for r in self.records) / took if took > 0 else 0.0

    def latency_s(self, share: float) -> float:
        """Of answered plain requests: the median with 0.5, the longest with 1."""
        took = sorted(r.ended - r.began for r in self.of("unary", "ok"))
        return took[min(len(took) - 1, int(share * len(took)))] if took else 0.0

    def at(self, mark: str) -> float:
        """When the mark was first made."""
        return next(when for when, what in self.marks if what == mark)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Write down a finding unless it holds."""
        if not holds:
            self.findings.append(otherwise)


class Experiment:
    """The load on a cluster, and a log of what happens to it. A context: at its end the load ends."""

    def __init__(self, cluster: HaCluster, load: Load, directory: Path, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.outcome = Outcome()
        self._load = load
        self._say = say
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "requests.jsonl"
        self._file.write_text("")  # the directory may be that of a run before
        self._read = 0

    def __enter__(self) -> Experiment:
        self._clients = self.clients(self._load)
        self.mark("load starts")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_load()

    def stop_load(self) -> None:
        """Send no more; what is on its way goes on."""
        if self._clients.poll() is None:
            self._clients.send_signal(signal.SIGTERM)

    def end_load(self) -> Outcome:
        """Send no more, and wait for what is on its way: only now is it known what was lost."""
        self.stop_load()
        self._clients.wait(timeout=120)
        return self.refresh()

    def expect_nothing_lost(self) -> None:
        """The most that a scenario can promise; ends the load."""
        lost = self.end_load().lost
        self.outcome.expect(not lost, f"{len(lost)} requests were lost: {_examples(lost)}")

    def clients(self, load: Load) -> subprocess.Popen[bytes]:
        """Start more clients, whose requests count as well; the caller ends them by SIGTERM."""
        program = [sys.executable, "-m", "tests.ha.load", self.cluster.url, MODEL, str(self._file)]
        return subprocess.Popen([*program, *load.arguments()], cwd=ROOT)

    def mark(self, what: str) -> None:
        """Write down that something is done or seen now."""
        self.outcome.marks.append((time.time(), what))
        self._say(what)

    def refresh(self) -> Outcome:
        """The outcome with what clients have reported until now."""
        with self._file.open() as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                self.outcome.records.append(Record(**json.loads(line)))
        return self.outcome

    def run_for(self, seconds: float) -> None:
        """Let time pass, and do meanwhile what KubeRay does: start again what has ended by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.cluster.revive()
            time.sleep(_POLL_S)
            self.refresh()

    def recover(self, figure: str = "recovery") -> float:
        """Wait until Serve is RUNNING with healthy proxies on all nodes; the time goes into the figures."""
        began = time.monotonic()

        def recovered() -> bool:
            self.cluster.revive()
            self.refresh()
            status = self.cluster.status()
            return (
                status is not None
                and status.serving
                and self.cluster.ray.alive_nodes() == 1 + len(WORKERS)
                and len(status.proxies) == 1 + len(WORKERS)
            )

        self.cluster.wait(recovered, what="recovery", timeout_s=_PATIENCE_S)
        took = time.monotonic() - began
        self.mark("recovered")
        self.outcome.figures[figure] = f"{took:.0f} s"
        return took

    def replicas(self, deployment: str) -> dict[str, dict[str, Any]]:
        """The running replicas of a deployment, by id."""
        return self.cluster.ray.replicas(MODEL, deployment)

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> float:
        """Wait for something that is to come; how long that took, seconds."""
        began = time.monotonic()

        def holds() -> bool:
            self.refresh()
            return condition()

        self.cluster.wait(holds, what=what, timeout_s=timeout_s)
        self.mark(what)
        return time.monotonic() - began


def memory_mib(cluster: HaCluster) -> float:
    """Of the processes on the workers, resident."""
    pids = [pid for worker in WORKERS for pid in cluster.processes(worker)]
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def _examples(records: list[Record]) -> str:
    texts = {f"{r.kind} {r.outcome} {r.status} {r.error}"[:200] for r in records}
    return "; ".join(sorted(texts)[:4])
