"""When the tokens of an engine's requests came. Times are `time.monotonic` seconds."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from serve_apps.llm.engine import Timings

_MOST_UNTAKEN = 100_000


def _bounded() -> deque[float]:
    return deque(maxlen=_MOST_UNTAKEN)


@dataclass(frozen=True)
class Stopwatch:
    """Collects timings in one thread until another takes them; where none does, the latest stay."""

    queued_s: deque[float] = field(default_factory=_bounded)
    first_token_s: deque[float] = field(default_factory=_bounded)
    between_tokens_s: deque[float] = field(default_factory=_bounded)

    def take(self) -> Timings:
        """What has come since the last call."""
        return Timings(_emptied(self.queued_s), _emptied(self.first_token_s), _emptied(self.between_tokens_s))


def _emptied(values: deque[float]) -> list[float]:
    return [values.popleft() for _ in range(len(values))]


@dataclass
class RequestClock:
    """The times of one request: when its first step began, and when its first and latest token came."""

    stopwatch: Stopwatch
    submitted: float
    started: float | None = None
    first_token: float | None = None
    last_token: float = 0.0

    def token(self, step_began: float) -> None:
        """Note that a token has come, from the step that began then."""
        now = time.monotonic()
        if self.started is None:
            self.started, self.first_token = step_began, now
            self.stopwatch.queued_s.append(step_began - self.submitted)
            self.stopwatch.first_token_s.append(now - self.submitted)
        else:
            self.stopwatch.between_tokens_s.append(now - self.last_token)
        self.last_token = now

    @property
    def queued_s(self) -> float | None:
        """From submission to the first step."""
        return None if self.started is None else self.started - self.submitted

    @property
    def first_token_s(self) -> float | None:
        """From submission to the first token."""
        return None if self.first_token is None else self.first_token - self.submitted
