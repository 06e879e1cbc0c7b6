"""The engine's thread: it alone touches the runner, and it never waits for a reader.

Commands come in through a queue; between two steps all of them are taken in, so an abort or a deadline
frees its slot before the next step. Events go out in one batch a step. With nothing to do, the thread
sleeps in the queue.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokenizers import Tokenizer

from serve_apps.llm.admission import InvalidRequestError, check_values
from serve_apps.llm.detokenizer import Detokenizer
from serve_apps.llm.engine import (
    EngineStats,
    Event,
    Failed,
    FailureKind,
    Finished,
    GenerationRequest,
    TextDelta,
)
from serve_apps.llm.runners import Runner, Sampled
from serve_apps.llm.scheduler import FinishReason, Output, Plan, QueueFullError, Scheduler
from serve_apps.llm.stopwatch import RequestClock, Stopwatch

logger = logging.getLogger(__name__)

_FAILED = "the engine failed and is being replaced; try again"
_CLOSING = "the engine is shutting down; try again elsewhere"
_SHORTEST_RETRY_S = 1.0
_NEWEST_SHARE = 0.2  # of the newest answer in the running mean of how long a slot is held


@dataclass(frozen=True, eq=False)
class Ticket:
    """One call of `generate`; what stands for it on both sides. Times are `time.monotonic` seconds."""

    request: GenerationRequest
    submitted: float
    deadline: float


@dataclass(frozen=True)
class Submit:
    """Command: answer this request."""

    ticket: Ticket


@dataclass(frozen=True)
class Abort:
    """Command: nobody reads this answer any more. Without effect if it has ended."""

    ticket: Ticket
    reason: Literal["cancelled", "slow_reader"]


@dataclass(frozen=True)
class Close:
    """Command: fail what is in flight and end the thread."""


Command = Submit | Abort | Close
Batch = Sequence[tuple[Ticket, Event]]


@dataclass
class _Answer:
    """An answer as far as it has come."""

    text: Detokenizer
    clock: RequestClock
    tokens: int = 0
    unsent: str = ""
    unsent_tokens: int = 0
    next_send: float = 0.0


class StepLoop:
    """`run` is the thread's body. Other threads put into `commands`, read `stats` and `failure`, and take
    `timings`.

    `loaded` is called once, with what the runner's `load` raised if it did; `deliver` with the events of
    each step. Both are called from the thread and must not block.

    An answer's text is sent at most every `stream_interval_s`: the first piece at once, the rest with the
    first token after the interval, or with the last one. A message costs much more than a token in it.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        *,
        eos_ids: Collection[int],
        max_queue: int,
        stream_interval_s: float,
        loaded: Callable[[Exception | None], None],
        deliver: Callable[[Batch], None],
    ) -> None:
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.failure: Exception | None = None
        self._runner = runner
        self._limits = runner.capabilities
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab_size()
        self._stream_interval_s = stream_interval_s
        self._loaded = loaded
        self._deliver = deliver
        self._scheduler: Scheduler[Ticket] = Scheduler(self._limits, eos_ids=eos_ids, max_queue=max_queue)
        self._answers: dict[Ticket, _Answer] = {}
        self._outbox: list[tuple[Ticket, Event]] = []
        self._mean_held_s = 0.0
        self._counters = EngineStats(self._limits.slots)
        self.stats = self._counters
        self.timings = Stopwatch()
        self._step_began: float | None = None

    def step_in_flight_s(self) -> float:
        """How long the runner has been at its present call, seconds; 0 while it is at none."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    def run(self) -> None:
        """Load, then serve until `Close`; after a failure, refuse until `Close`."""
        try:
            self._runner.load()
        except Exception as error:
            self.failure = error
        self._loaded(self.failure)
        if self.failure is None:
            try:
                self._serve()
            except Exception as error:
                logger.exception("the engine failed; every request in flight ends")
                self.failure = error
        self._fail_everything()
        self._close_runner()
        if self.failure is not None:
            self._refuse()

    def _serve(self) -> None:
        working = False
        while self._take_commands(block=not working):
            self._expire()
            plan = self._scheduler.schedule()
            working = bool(plan)
            self._execute(plan)
            self._publish()

    def _take_commands(self, *, block: bool) -> bool:
        """Obey what has come in, after waiting for something if `block`; false at `Close`."""
        try:
            while True:
                command = self.commands.get(block)
                if isinstance(command, Close):
                    return False
                self._obey(command)
                block = False
        except queue.Empty:
            return True

    def _obey(self, command: Submit | Abort) -> None:
        ticket = command.ticket
        if isinstance(command, Submit):
            self._submit(ticket)
        elif self._scheduler.cancel(ticket):
            self._count(failed=int(command.reason == "slow_reader"))
            self._end(ticket, command.reason)

    def _submit(self, ticket: Ticket) -> None:
        try:
            check_values(ticket.request, self._limits, self._vocabulary)
            self._scheduler.add(ticket, ticket.request, ticket.deadline)
        except InvalidRequestError as error:
            self._fail(ticket, "invalid_request", str(error))
        except QueueFullError:
            running, waiting = self._scheduler.slots_in_use, self._scheduler.queued
            self._fail(
                ticket,
                "queue_full",
                f"{running} requests are running and {waiting} are waiting, which is the limit; retry later",
                retry_after_s=max(_SHORTEST_RETRY_S, self._mean_held_s / self._limits.slots),
            )
        else:
            clock = RequestClock(self.timings, ticket.submitted)
            self._answers[ticket] = _Answer(Detokenizer(self._tokenizer, ticket.request.stop), clock)

    def _expire(self) -> None:
        for ticket in self._scheduler.expire(time.monotonic()):
            life_s = ticket.deadline - ticket.submitted
            self._fail(ticket, "timeout", f"the request was not complete after {life_s:g} s, the limit")

    def _execute(self, plan: Plan) -> None:
        began = self._step_began = time.monotonic()
        for slot in plan.release:
            self._runner.release(slot)
        sampled: Sequence[Sampled] = ()
        if plan.prefill:
            sampled = self._runner.prefill(plan.prefill)
        elif plan.decode:
            sampled = self._runner.decode(plan.decode)
        self._step_began = None
        if not sampled:
            return
        for output in self._scheduler.update(plan, sampled):
            self._advance(output, began)
        self._count(
            steps=1,
            generated_tokens=len(sampled),
            prefill_tokens=sum(len(item.ids) for item in plan.prefill),
            decode_rows=len(plan.decode),
            decode_slots=self._limits.slots if plan.decode else 0,
        )

    def _advance(self, output: Output[Ticket], step_began: float) -> None:
        """Turn a token into events."""
        ticket = output.key
        answer = self._answers[ticket]
        now = time.monotonic()
        answer.clock.token(step_began)
        answer.tokens += 1
        answer.unsent_tokens += 1
        # An end-of-sequence token ends the text; whether it also stands for text is the vocabulary's affair.
        text = "" if output.finish == "stop" else answer.text.push(output.token)
        if output.finish:
            text += answer.text.flush()
        if answer.text.stopped:
            self._scheduler.cancel(ticket)  # before its time; nothing happens if this was its last token
        answer.unsent += text
        finish: FinishReason | None = "stop" if answer.text.stopped else output.finish
        if answer.unsent and (finish or now >= answer.next_send):
            self._send_text(ticket, answer)
            answer.next_send = now + self._stream_interval_s
        if finish:
            prompt_tokens, clock = len(ticket.request.prompt_ids), answer.clock
            end = Finished(finish, prompt_tokens, answer.tokens, clock.queued_s, clock.first_token_s)
            self._outbox.append((ticket, end))
            self._count(finished=1)
            self._end(ticket, finish)

    def _send_text(self, ticket: Ticket, answer: _Answer) -> None:
        if answer.unsent:
            self._outbox.append((ticket, TextDelta(answer.unsent, answer.unsent_tokens)))
            answer.unsent, answer.unsent_tokens = "", 0

    def _fail(
        self, ticket: Ticket, kind: FailureKind, message: str, retry_after_s: float | None = None
    ) -> None:
        if answer := self._answers.get(ticket):
            self._send_text(ticket, answer)
        self._outbox.append((ticket, Failed(kind, message, retry_after_s)))
        self._count(failed=1)
        self._end(ticket, kind)

    def _end(self, ticket: Ticket, reason: str) -> None:
        """Forget a ticket and log one line about it, which never holds text."""
        now = time.monotonic()
        answer = self._answers.pop(ticket, None)
        started = answer.clock.started if answer else None
        first_token_s = answer.clock.first_token_s if answer else None
        if started is not None:
            held_s = now - started
            self._mean_held_s += (held_s - self._mean_held_s) * (_NEWEST_SHARE if self._mean_held_s else 1)
        logger.info(
            "request_id=%s reason=%s prompt_tokens=%d completion_tokens=%d "
            "queued_s=%.3f first_token_s=%s total_s=%.3f",
            ticket.request.request_id,
            reason,
            len(ticket.request.prompt_ids),
            answer.tokens if answer else 0,
            (started or now) - ticket.submitted,
            "none" if first_token_s is None else f"{first_token_s:.3f}",
            now - ticket.submitted,
        )

    def _count(self, **growth: int) -> None:
        counted = {name: getattr(self._counters, name) + number for name, number in growth.items()}
        self._counters = replace(self._counters, **counted)

    def _publish(self) -> None:
        """Show the step's result; the snapshot first, so that who has seen an event finds it counted."""
        self.stats = replace(
            self._counters, slots_in_use=self._scheduler.slots_in_use, queued=self._scheduler.queued
        )
        if self._outbox:
            batch, self._outbox = self._outbox, []
            self._deliver(batch)

    def _fail_everything(self) -> None:
        for ticket in list(self._answers):
            # What a step broke on may be a request in it, and would break another engine too.
            may_be_the_cause = self.failure is not None and self._scheduler.has_slot(ticket)
            self._scheduler.cancel(ticket)
            message = _FAILED if self.failure else _CLOSING
            self._fail(ticket, "engine_error" if may_be_the_cause else "engine_gone", message)
        self._publish()

    def _close_runner(self) -> None:
        try:
            self._runner.close()
        except Exception:
            logger.exception("closing the runner failed")

    def _refuse(self) -> None:
        """Answer every request with the failure: one may have been sent before its sender learnt of it."""
        while not isinstance(command := self.commands.get(), Close):
            if isinstance(command, Submit):
                self._fail(command.ticket, "engine_gone", _FAILED)
                self._publish()
