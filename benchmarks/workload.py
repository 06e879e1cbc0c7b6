"""The same load for everybody: fixed prompts, answers of a fixed length, two ways to arrive."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

ANSWER_TOKENS = 64
_SHORTEST_PROMPT, _LONGEST_PROMPT = 20, 100
_LOWEST_ID, _HIGHEST_ID = 100, 40_000  # ordinary words in the vocabularies of small models

Arrival = Literal["burst", "closed loop"]
# A prompt in, and for every message that comes back how many tokens it held.
Ask = Callable[[Sequence[int]], AsyncIterator[int]]


def prompts(number: int) -> list[tuple[int, ...]]:
    """The first `number` prompts of 20-100 random tokens; the same ones in every run."""
    chance = random.Random(20261101)  # noqa: S311 - the same prompts each time, no secret
    lengths = (chance.randint(_SHORTEST_PROMPT, _LONGEST_PROMPT) for _ in range(number))
    return [tuple(chance.randint(_LOWEST_ID, _HIGHEST_ID) for _ in range(length)) for length in lengths]


@dataclass
class Stream:
    """One answer as its client saw it; seconds since the request was sent."""

    tokens: int = 0
    arrivals_s: list[float] = field(default_factory=list[float])

    @property
    def gaps_s(self) -> list[float]:
        """Times between two messages."""
        return [later - earlier for earlier, later in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)]


@dataclass
class Load:
    """What came of a load."""

    wall_s: float
    streams: list[Stream]

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all answers over the time until the last one was complete."""
        return sum(stream.tokens for stream in self.streams) / self.wall_s

    def summary(self) -> dict[str, float]:
        """The figures that tables and files show; times in seconds."""
        first = [stream.arrivals_s[0] for stream in self.streams]
        whole = [stream.arrivals_s[-1] for stream in self.streams]
        return {
            "tokens_per_s": self.tokens_per_s,
            "ttft_p50_s": percentile(first, 50),
            "ttft_p95_s": percentile(first, 95),
            "latency_p50_s": percentile(whole, 50),
            "latency_p95_s": percentile(whole, 95),
        }


async def run_load(ask: Ask, clients: int, arrival: Arrival, *, rounds: int = 2) -> Load:
    """`burst`: every client asks once, at the same moment. `closed loop`: each asks `rounds` times."""
    questions = 1 if arrival == "burst" else rounds
    asked = prompts(clients * questions)
    began = time.perf_counter()
    streams = await asyncio.gather(
        *(_client(ask, asked[client * questions : (client + 1) * questions]) for client in range(clients))
    )
    return Load(time.perf_counter() - began, [stream for answers in streams for stream in answers])


async def _client(ask: Ask, asked: Sequence[Sequence[int]]) -> list[Stream]:
    return [await read(ask(prompt)) for prompt in asked]


async def read(messages: AsyncIterator[int]) -> Stream:
    """Read an answer to its end."""
    stream, began = Stream(), time.perf_counter()
    async for tokens in messages:
        stream.tokens += tokens
        stream.arrivals_s.append(time.perf_counter() - began)
    return stream


def percentile(values: Sequence[float], percent: int) -> float:
    """Nearest-rank percentile: always one of the values."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def median_of_ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over alternations of ours to theirs."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


async def alternate(
    names: Sequence[str], alternations: int, measure: Callable[[str], Awaitable[Load]]
) -> dict[str, list[Load]]:
    """Measure everybody `alternations` times, one after the other, each time beginning with the next."""
    loads: dict[str, list[Load]] = {name: [] for name in names}
    for turn in range(alternations):
        shift = turn % len(names)
        for name in [*names[shift:], *names[:shift]]:
            loads[name].append(await measure(name))
    return loads
