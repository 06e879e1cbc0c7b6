"""Load on a service while something happens to it, and what came of it.

Requests are those of the project's load generator (`client.load`): streamed, at random times that do not
depend on the answers, repeated by nobody. Every one has a connection of its own, because one that is kept
stays with one pod. As a program, `python -m tests.cluster.load URL MODEL OUT RATE`: SIGTERM ends the sending,
what is under way is awaited, and the records go to OUT.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path

from client.connection import Connection
from client.load.record import Record
from client.load.runner import run
from client.load.workload import length, plan
from tests.graph.stacks import CHECKOUT

_ANSWER_TIMEOUT_S = 60.0
_WEEK_S = 7 * 24 * 3600.0
# Before and after what happens.
_LEAD_S = 3.0
_TAIL_S = 5.0


@dataclass
class Row:
    """A scenario in the table.

    `lost` are requests without a whole answer, of them `refused` those with a 429 or 503. `wrong` answers are
    whole, but empty, of another model or without a reason to end. `also` is what the scenario measured.
    """

    scenario: str
    replicas: int
    requests: int = 0
    lost: int = 0
    refused: int = 0
    wrong: int = 0
    median_s: float = 0.0
    longest_s: float = 0.0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    also: dict[str, str] = field(default_factory=dict[str, str])

    def fill(self, records: Sequence[Record], model: str) -> None:
        """Count."""
        waits = [record.latency_s for record in records if record.latency_s is not None] or [0.0]
        self.requests = len(records)
        self.errors = dict(Counter(record.error for record in records if record.error))
        self.lost = sum(self.errors.values())
        self.refused = sum(
            n for error, n in self.errors.items() if error.startswith(("HTTP 429", "HTTP 503"))
        )
        self.wrong = sum(record.ok and not _is_right(record, model) for record in records)
        self.median_s, self.longest_s = statistics.median(waits), max(waits)

    def expect_nothing_lost(self) -> None:
        """The promise of a service with two replicas."""
        assert self.requests, f"{self.scenario}: nothing was asked"
        assert not self.lost + self.wrong, (
            f"{self.scenario}: of {self.requests} requests {self.lost} were lost and {self.wrong} answered "
            f"wrongly: {self.errors}"
        )


def _is_right(record: Record, model: str) -> bool:
    return record.pieces > 0 and record.model == model and record.finish_reason in ("stop", "length")


@contextmanager
def clients(url: str, model: str, row: Row, out: Path, rate: float) -> Iterator[Row]:
    """Ask `rate` times a second for as long as the context lasts; then the row is filled."""
    program = [sys.executable, "-m", "tests.cluster.load", url, model, str(out), str(rate)]
    asking = subprocess.Popen(program, cwd=CHECKOUT, start_new_session=True)
    try:
        time.sleep(_LEAD_S)
        yield row
        time.sleep(_TAIL_S)
    finally:
        asking.terminate()
        code = asking.wait(2 * _ANSWER_TIMEOUT_S)
    assert code == 0, f"the clients of {row.scenario} ended with {code}"
    row.fill([Record(**record) for record in json.loads(out.read_text())], model)


class _ConnectionEach(Connection):
    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Connection": "close"}


def main(url: str, model: str, out: str, rate: str) -> None:
    """Ask until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    planned = plan(rate=float(rate), until_s=_WEEK_S, prompt=length("8"), answer=length("8"), seed=0)
    outcome = run(
        _ConnectionEach(f"{url}/v1", timeout_s=_ANSWER_TIMEOUT_S),
        model,
        takewhile(lambda _: not stopped, planned),
        until_s=0,
        drain_s=_ANSWER_TIMEOUT_S,
        progress=lambda *_: None,
    )
    Path(out).write_text(json.dumps([asdict(record) for record in outcome.records]))


if __name__ == "__main__":
    main(*sys.argv[1:])
