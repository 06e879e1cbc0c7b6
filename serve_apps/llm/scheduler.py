"""Which request computes what in the next step: a pure state machine over `slots` sequences.

One step is `plan = scheduler.schedule()`, the runner carries the plan out, `scheduler.update(plan, sampled)`.
Nothing may be called between those two; before and after, `add`, `cancel` and `expire` may. Time is passed
in, and nothing here blocks, computes or communicates, so every decision can be tested by calling it.

* Order is first come, first served: a prompt that does not fit into a step holds up those behind it.
* A step either prefills or decodes, as the runner's contract demands. Prompts that wait together share one
  prefill as far as `prefill_rows` and `prefill_tokens` allow; a longer prompt takes a step of its own.
* A prefill that made running streams wait is followed by a decode, so at most one prefill lies between two
  decodes of a stream.
* A request that ends gives its slot back at once; the next plan tells the runner to release it first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from serve_apps.llm.admission import check_lengths
from serve_apps.llm.engine import GenerationRequest
from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled

Key = TypeVar("Key", bound=Hashable)
FinishReason = Literal["stop", "length"]


class QueueFullError(Exception):
    """As many requests wait as may; nothing of this one was kept."""


@dataclass(frozen=True)
class Plan:
    """One step: slots to release first, then either prompts to prefill or live slots to decode."""

    release: tuple[int, ...] = ()
    prefill: tuple[Prefill, ...] = ()
    decode: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.release or self.prefill or self.decode)


@dataclass(frozen=True)
class Output(Generic[Key]):
    """The token that a step gave to the request `key`; `finish` is set on its last one."""

    key: Key
    token: int
    finish: FinishReason | None


@dataclass(eq=False)
class _Generation(Generic[Key]):
    """A request in flight."""

    key: Key
    request: GenerationRequest
    deadline: float
    slot: int | None = None
    tokens: int = 0
    last_token: int = -1

    def next_row(self, slot: int) -> Row:
        return Row(slot, self.last_token, len(self.request.prompt_ids) + self.tokens - 1)


class Scheduler(Generic[Key]):
    """The requests that wait and those in slots, each known by a key of the caller's.

    `eos_ids` end an answer. `max_queue` bounds the requests that wait beyond the free slots.
    """

    def __init__(self, capabilities: Capabilities, *, eos_ids: Collection[int], max_queue: int) -> None:
        self._limits = capabilities
        self._eos_ids = frozenset(eos_ids)
        self._max_queue = max_queue
        self._in_flight: dict[Key, _Generation[Key]] = {}
        self._waiting: deque[_Generation[Key]] = deque()
        self._running: dict[int, _Generation[Key]] = {}
        self._free = list(range(capabilities.slots))  # a heap: low slots first, so live ones lie together
        self._released: list[int] = []
        self._decode_due = False

    @property
    def queued(self) -> int:
        """How many requests have no slot."""
        return len(self._waiting)

    @property
    def slots_in_use(self) -> int:
        """How many requests have a slot."""
        return len(self._running)

    def add(self, key: Key, request: GenerationRequest, deadline: float) -> None:
        """Queue a request. Raises `InvalidRequestError` or `QueueFullError`, and keeps nothing then."""
        check_lengths(request, self._limits)
        if len(self._waiting) - len(self._free) >= self._max_queue:
            raise QueueFullError
        generation = _Generation(key, request, deadline)
        self._in_flight[key] = generation
        self._waiting.append(generation)

    def schedule(self) -> Plan:
        """The next step; an empty plan when there is nothing to do."""
        release, self._released = tuple(self._released), []
        decode_due = self._decode_due and self._running
        if not decode_due and (prefill := self._fill_slots()):
            return Plan(release=release, prefill=prefill)
        rows = tuple(generation.next_row(slot) for slot, generation in sorted(self._running.items()))
        return Plan(release=release, decode=rows)

    def update(self, plan: Plan, sampled: Sequence[Sampled]) -> list[Output[Key]]:
        """Take in the tokens of `plan`, in its order; requests that are complete give up their slots."""
        streams_waited = self.slots_in_use > len(plan.prefill)
        self._decode_due = bool(plan.prefill) and streams_waited
        slots = [item.slot for item in plan.prefill or plan.decode]
        return [
            self._advance(self._running[slot], result.token)
            for slot, result in zip(slots, sampled, strict=True)
        ]

    def has_slot(self, key: Key) -> bool:
        """Whether the request has left the queue and not ended."""
        generation = self._in_flight.get(key)
        return generation is not None and generation.slot is not None

    def cancel(self, key: Key) -> bool:
        """End a request early; false if it had ended already."""
        generation = self._in_flight.get(key)
        if generation is None:
            return False
        if generation.slot is None:
            self._waiting.remove(generation)
        self._end(generation)
        return True

    def expire(self, now: float) -> list[Key]:
        """Cancel the requests whose deadline has come, and return their keys."""
        expired = [key for key, generation in self._in_flight.items() if generation.deadline <= now]
        for key in expired:
            self.cancel(key)
        return expired

    def _fill_slots(self) -> tuple[Prefill, ...]:
        """Move waiting requests into free slots: the first one, and those behind it that share its step."""
        prefills: list[Prefill] = []
        tokens = 0
        while self._waiting and self._free and len(prefills) < self._limits.prefill_rows:
            request = self._waiting[0].request
            tokens += len(request.prompt_ids)
            if prefills and tokens > self._limits.prefill_tokens:
                break
            generation = self._waiting.popleft()
            generation.slot = slot = heapq.heappop(self._free)
            self._running[slot] = generation
            prefills.append(Prefill(slot, request.prompt_ids, request.sampling))
        return tuple(prefills)

    def _advance(self, generation: _Generation[Key], token: int) -> Output[Key]:
        request = generation.request
        generation.last_token = token
        generation.tokens += 1
        finish: FinishReason | None = None
        if token in self._eos_ids and not request.ignore_eos:
            finish = "stop"
        elif generation.tokens == request.max_tokens:
            finish = "length"
        if finish:
            self._end(generation)
        return Output(generation.key, token, finish)

    def _end(self, generation: _Generation[Key]) -> None:
        del self._in_flight[generation.key]
        if generation.slot is not None:
            del self._running[generation.slot]
            heapq.heappush(self._free, generation.slot)
            self._released.append(generation.slot)
