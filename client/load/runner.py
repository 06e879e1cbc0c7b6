"""The open loop: every request is sent at its time, whatever became of those before it."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from client.connection import Connection
from client.load.record import Record
from client.load.sender import Sender
from client.load.workload import PlannedRequest

_PROGRESS_S = 1.0


@dataclass
class Outcome:
    """All records, warm-up included, and what the test took. `cpu_s` is this process's own."""

    records: list[Record] = field(default_factory=list[Record])
    sent_until_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    interrupted: bool = False


def run(
    connection: Connection,
    model: str,
    requests: Iterable[PlannedRequest],
    *,
    until_s: float,
    drain_s: float,
    progress: Callable[[float, int, int], None],
) -> Outcome:
    """Send everything, wait up to `drain_s` for the rest, and return what is known, after Ctrl-C too.

    `progress` gets the time, the requests sent and those in flight, once a second.
    """
    _allow_many_connections()
    return asyncio.run(_Loop(connection, model, until_s, drain_s, progress).run(requests))


class _Loop:
    def __init__(
        self,
        connection: Connection,
        model: str,
        until_s: float,
        drain_s: float,
        progress: Callable[[float, int, int], None],
    ) -> None:
        self._connection = connection
        self._model = model
        self._until_s = until_s
        self._drain_s = drain_s
        self._progress = progress
        self._outcome = Outcome()
        self._tasks: set[asyncio.Task[None]] = set()
        self._defects: list[BaseException] = []
        self._began = 0.0

    async def run(self, requests: Iterable[PlannedRequest]) -> Outcome:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, stop.set)
        self._began, cpu = time.perf_counter(), time.process_time()
        async with Sender(self._connection, self._model, self._now) as sender:
            work = asyncio.create_task(self._send_all(sender, requests))
            ticker = asyncio.create_task(self._tick())
            interrupt = asyncio.create_task(stop.wait())
            await asyncio.wait({work, interrupt}, return_when=asyncio.FIRST_COMPLETED)
            self._outcome.interrupted = not work.done()
            self._outcome.sent_until_s = min(self._now(), self._until_s)
            self._outcome.wall_s = self._now()
            self._outcome.cpu_s = time.process_time() - cpu
            for task in (work, ticker, interrupt, *self._tasks):
                task.cancel()
            await asyncio.gather(work, *self._tasks, return_exceptions=True)
        if self._defects:
            raise self._defects[0]
        return self._outcome

    def _now(self) -> float:
        return time.perf_counter() - self._began

    async def _send_all(self, sender: Sender, requests: Iterable[PlannedRequest]) -> None:
        for planned in requests:
            if (ahead_s := planned.at_s - self._now()) > 0:
                await asyncio.sleep(ahead_s)
            record = Record(intended_s=planned.at_s, sent_s=self._now())
            self._outcome.records.append(record)
            task = asyncio.create_task(sender.send(planned, record))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        await asyncio.sleep(max(0.0, self._until_s - self._now()))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_s)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # The sender turns what servers and networks do into records; all else is a defect of ours.
        if not task.cancelled() and (defect := task.exception()):
            self._defects.append(defect)

    async def _tick(self) -> None:
        while True:
            self._progress(self._now(), len(self._outcome.records), len(self._tasks))
            await asyncio.sleep(_PROGRESS_S)


def _allow_many_connections() -> None:
    """Each request in flight is an open file; the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
