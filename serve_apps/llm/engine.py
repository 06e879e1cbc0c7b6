"""What the API talks to: an engine takes generation requests and yields events.

`SlotEngine` (see `slot_engine.py`) is ours, over a `Runner`. An engine that owns its scheduler and cache,
such as vLLM, would stand beside it behind the same protocol.

Everything here crosses process borders (API replica -> engine replica), so it is plain frozen data, and a
request that fails says so as an event: an exception would arrive wrapped in the transport's own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from serve_apps.llm.runners import SamplingParams

# How often an engine's replica says that it is there, seconds.
ALIVE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt, already tokenised, and how to continue it.

    `max_tokens` is positive and `len(prompt_ids) + max_tokens <= max_len`. `stop` strings end the answer and
    are not part of it. `ignore_eos` is for measurements of a fixed length.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer that is final: whole characters, no special tokens, no part of a stop string."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Finished:
    """The answer is complete. `stop`: end-of-sequence or a stop string; `length`: max_tokens reached.

    Seconds are from the submission to the engine: to the first step of the request, and to its first token.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    queued_s: float | None = field(default=None, compare=False)
    first_token_s: float | None = field(default=None, compare=False)


FailureKind = Literal[
    "invalid_request",  # beyond the engine's limits; the API checks first, so this is a second fence
    "queue_full",  # nothing started; safe to retry after `retry_after_s`
    "timeout",  # the request's life is over
    "slow_reader",  # the client stopped reading
    "engine_error",  # the runner raised while it had the request
    "engine_gone",  # the engine has failed or closes, and had nothing to do with it; safe to retry elsewhere
]


@dataclass(frozen=True)
class Failed:
    """The request ended without an answer, or in the middle of one."""

    kind: FailureKind
    message: str
    retry_after_s: float | None = None


Event = TextDelta | Finished | Failed


@dataclass(frozen=True)
class Alive:
    """Nothing new: the request waits or is being computed, and the engine's replica can still say so."""


@dataclass(frozen=True)
class EngineStats:
    """A snapshot for logs, the chat page and tests. Counters grow over the engine's life."""

    slots: int
    slots_in_use: int = 0
    queued: int = 0
    steps: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    decode_rows: int = 0
    decode_slots: int = 0  # slots x decode steps; decode_rows is the share of it that did useful work
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Timings:
    """What was measured since the last look, seconds: one value a request, and one a token but the first."""

    queued_s: Sequence[float] = ()
    first_token_s: Sequence[float] = ()
    between_tokens_s: Sequence[float] = ()


class Engine(Protocol):
    """Asynchronous face of an engine; every method may be called from one event loop."""

    async def start(self) -> None:
        """Load the model; returns when requests can be served. Raises what the runner raised."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event | Alive, None]:
        """Events of one request, ended by exactly one `Finished` or `Failed`.

        In between come `Alive`, if the engine was made to send them. Closing the iterator, or cancelling the
        task that reads it, frees the slot within one step.
        """
        ...

    def check_health(self) -> None:
        """Raise if the engine cannot serve any more; the replica is then replaced."""
        ...

    def stats(self) -> EngineStats:
        """A consistent snapshot."""
        ...

    def take_timings(self) -> Timings:
        """What was measured since the last call."""
        ...

    async def close(self) -> None:
        """Stop the engine; requests in flight end with `Failed`."""
        ...
