"""The engine of this project: a runner's slots behind an asyncio face.

This side lives on the event loop and holds what readers have not read yet; the other side is `StepLoop`, a
thread of its own. They share nothing but commands one way and events the other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncGenerator, Collection

from tokenizers import Tokenizer

from serve_apps.llm.engine import (
    Alive,
    Engine,
    EngineStats,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    TextDelta,
    Timings,
)
from serve_apps.llm.runners import Runner
from serve_apps.llm.step_loop import Abort, Batch, Close, StepLoop, Submit, Ticket

logger = logging.getLogger(__name__)


class EngineDeadError(RuntimeError):
    """The engine cannot serve any more; the cause, if the runner raised something, is that."""


class SlotEngine(Engine):
    """Serves requests over one runner.

    `tokenizer` turns token ids into text; `eos_ids` end an answer. A request lives at most
    `request_timeout_s`, waiting included; a step longer than `step_timeout_s` counts as hanging. At most
    `max_queue` requests wait beyond the free slots. A reader that lets more than `max_unread_events` events
    pile up is cut off. Text is sent at most every `stream_interval_s`; 0 sends every token at once. Who waits
    is told every `alive_interval_s` that the engine is there.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        *,
        eos_ids: Collection[int],
        max_queue: int,
        request_timeout_s: float,
        step_timeout_s: float = math.inf,
        stream_interval_s: float = 0.0,
        max_unread_events: int = 512,
        alive_interval_s: float = math.inf,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._step_timeout_s = step_timeout_s
        self._max_unread_events = max_unread_events
        self._alive_interval_s = alive_interval_s
        self._unread: dict[Ticket, asyncio.Queue[Event | Alive]] = {}
        self._steps = StepLoop(
            runner,
            tokenizer,
            eos_ids=eos_ids,
            max_queue=max_queue,
            stream_interval_s=stream_interval_s,
            loaded=self._loaded_soon,
            deliver=self._deliver_soon,
        )
        # A daemon: a program that forgets to close its engine must still be able to exit.
        self._thread = threading.Thread(target=self._steps.run, name="engine", daemon=True)
        self._accepting = False

    async def start(self) -> None:
        """See `Engine`. May be called once."""
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        began = time.monotonic()
        self._thread.start()
        try:
            await self._loaded
        except Exception:
            await self.close()
            raise
        self._accepting = True
        self._say_alive()
        logger.info("engine ready after %.1f s", time.monotonic() - began)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event | Alive, None]:
        """See `Engine`."""
        if not self._accepting:
            yield Failed("engine_gone", "the engine is not running")
            return
        now = time.monotonic()
        ticket = Ticket(request, submitted=now, deadline=now + self._request_timeout_s)
        unread = self._unread[ticket] = asyncio.Queue[Event | Alive]()
        self._steps.commands.put(Submit(ticket))
        try:
            while True:
                event = await unread.get()
                yield event
                if isinstance(event, (Finished, Failed)):
                    return
        finally:
            if self._unread.pop(ticket, None) is not None:
                self._steps.commands.put(Abort(ticket, "cancelled"))

    def check_health(self) -> None:
        """See `Engine`. Raises `EngineDeadError`."""
        if self._steps.failure:
            raise EngineDeadError("the engine failed") from self._steps.failure
        if self._thread.ident is not None and not self._thread.is_alive():
            raise EngineDeadError("the engine is closed")
        busy_s = self._steps.step_in_flight_s()
        if busy_s > self._step_timeout_s:
            raise EngineDeadError(
                f"the engine hangs: a step has been running for {busy_s:.0f} s, "
                f"step_timeout_s is {self._step_timeout_s:g}"
            )

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return self._steps.stats

    def take_timings(self) -> Timings:
        """See `Engine`."""
        return self._steps.timings.take()

    async def close(self) -> None:
        """See `Engine`. Waits for the step in progress; may be called more than once."""
        self._accepting = False
        if self._thread.is_alive():
            self._steps.commands.put(Close())
            await asyncio.to_thread(self._thread.join)

    def _loaded_soon(self, error: Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._settle_start, error)

    def _settle_start(self, error: Exception | None) -> None:
        if self._loaded.done():
            return  # the caller of `start` was cancelled
        if error:
            self._loaded.set_exception(error)
        else:
            self._loaded.set_result(None)

    def _say_alive(self) -> None:
        for unread in self._unread.values():
            if unread.empty():
                unread.put_nowait(Alive())
        if self._accepting and self._alive_interval_s < math.inf:
            self._loop.call_later(self._alive_interval_s, self._say_alive)

    def _deliver_soon(self, batch: Batch) -> None:
        self._loop.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: Batch) -> None:
        for ticket, event in batch:
            unread = self._unread.get(ticket)
            if unread is None:
                continue  # its reader has left
            if isinstance(event, TextDelta) and unread.qsize() >= self._max_unread_events:
                self._steps.commands.put(Abort(ticket, "slow_reader"))
                event = Failed("slow_reader", f"more than {self._max_unread_events} events were not read")
            if not isinstance(event, TextDelta):
                del self._unread[ticket]
            unread.put_nowait(event)
