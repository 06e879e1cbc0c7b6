"""What a load test sends, and when: decided before it starts, from a seed alone.

Arrivals are a Poisson process: the times between requests are exponentially distributed and do not depend on
the answers. That makes the loop open, as independent users are.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Short and common, so that nearly each is one token of nearly every tokenizer.
_TEXT = (
    "the of and to in is you that it he was for on are with as his they be at one have this from or had by "
    "hot but some what there we can out other were all your when up use word how said an each she which do "
    "their time if will way about many then them would write like so these her long make thing see him two "
    "has look more day could go come did my sound no most number who over know water than call first people"
)
_WORDS = _TEXT.split()
_MAX_TOKENS = 1_000_000


@dataclass(frozen=True)
class Length:
    """A distribution of lengths, tokens. `text` is how the user wrote it."""

    text: str
    draw: Callable[[random.Random], float]

    def sample(self, source: random.Random) -> int:
        """A length of at least one."""
        return max(1, min(_MAX_TOKENS, round(self.draw(source))))


@dataclass(frozen=True)
class PlannedRequest:
    """`at_s` is when it is meant to be sent, seconds after the start of the test."""

    at_s: float
    prompt: str
    max_tokens: int


def length(text: str) -> Length:
    """Read `N`, `uniform:LOW:HIGH`, `normal:MEAN:DEVIATION` or `exponential:MEAN`, for argparse."""
    kind, *numbers = f"fixed:{text}".split(":") if text.isdecimal() else text.split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if any(not 0 <= value <= _MAX_TOKENS for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are from 0 to {_MAX_TOKENS} tokens")
    match kind, values:
        case "fixed", [tokens] if tokens >= 1:
            return Length(text, lambda _: tokens)
        case "uniform", [low, high] if low <= high:
            return Length(text, lambda source: source.uniform(low, high))
        case "normal", [mean, deviation]:
            return Length(text, lambda source: source.gauss(mean, deviation))
        case "exponential", [mean] if mean > 0:
            return Length(text, lambda source: source.expovariate(1 / mean))
        case _:
            raise argparse.ArgumentTypeError(
                f"{text!r}: write it as N, uniform:LOW:HIGH, normal:MEAN:DEVIATION or exponential:MEAN"
            )


def plan(
    *, rate: float, until_s: float, prompt: Length, answer: Length, seed: int
) -> Iterator[PlannedRequest]:
    """Requests in the order of their times, `rate` a second on average, up to `until_s`.

    Arrivals, prompts and answers have sources of their own, so that another rate sends the same texts.
    """
    # Repeatable on purpose, so not the generator for secrets.
    arrivals, prompts, answers = (random.Random(f"{seed}/{of}") for of in ("at", "prompt", "answer"))  # noqa: S311
    at_s = arrivals.expovariate(rate)
    while at_s < until_s:
        words = " ".join(prompts.choices(_WORDS, k=prompt.sample(prompts)))
        yield PlannedRequest(at_s, words, answer.sample(answers))
        at_s += arrivals.expovariate(rate)
