"""What one API key may ask of this replica of the API: requests and tokens a minute.

Each is a bucket that holds one minute's worth and fills up all the time. A request takes one from the first
when it begins. From the second it takes its tokens as they come, those of the prompt with the first of the
answer: how many there will be nobody knows before. So the second may fall below zero, and the key then waits
until it is filled again; over time no key gets more than its share, and a request that no engine takes costs
no tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from serve_apps.errors import ApiError, rate_limited

_MINUTE_S = 60.0
# Keys of `limits` in the Api deployment's `user_config`, and what OpenAI calls the kinds.
REQUESTS, TOKENS = "requests", "tokens"


class Budgets:
    """The budgets of all keys. Not thread-safe: the API has one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Without limits until `configure`; `clock` tells seconds."""
        self._clock = clock
        self._limits: dict[str, float] = {}
        self._buckets: dict[tuple[bytes, str], _Bucket] = {}

    def configure(self, limits: Mapping[str, float]) -> None:
        """Take over limits a minute by kind, `requests` and `tokens`; a kind that is not there has none."""
        if dict(limits) != self._limits:
            self._limits = dict(limits)
            self._buckets.clear()

    def admit(self, key: bytes) -> None:
        """Count a request of `key`. Raises `ApiError` (429) while one of its budgets is used up."""
        for kind in self._limits:
            wait_s = self._bucket(key, kind).wait_s(1.0 if kind == REQUESTS else 0.0)
            if wait_s > 0:
                raise _used_up(kind, self._limits[kind], wait_s)
        if REQUESTS in self._limits:
            self._bucket(key, REQUESTS).take(1.0)

    def charge(self, key: bytes, tokens: int) -> None:
        """Count tokens that a request of `key` has used."""
        if TOKENS in self._limits:
            self._bucket(key, TOKENS).take(tokens)

    def _bucket(self, key: bytes, kind: str) -> _Bucket:
        return self._buckets.setdefault((key, kind), _Bucket(self._limits[kind], self._clock))


class _Bucket:
    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        # A share below one would never let a request through.
        self._size, self._per_s, self._clock = max(1.0, per_minute), per_minute / _MINUTE_S, clock
        self._level, self._at_s = self._size, clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until more than nothing, and at least `amount`, is there; 0 if it is."""
        self._fill()
        missing = amount - self._level
        return missing / self._per_s if missing > 0 else 0.0

    def take(self, amount: float) -> None:
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now_s = self._clock()
        self._level = min(self._size, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s


def _used_up(kind: str, per_minute: float, wait_s: float) -> ApiError:
    return rate_limited(
        f"This API key has used up its {kind} of a minute ({per_minute:g} on this replica); "
        "send the request again after the seconds in Retry-After.",
        kind=kind,
        retry_after_s=wait_s,
    )
