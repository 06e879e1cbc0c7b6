"""What a load test sends: Poisson arrivals and lengths, from a seed alone."""

from __future__ import annotations

import argparse
import statistics
from itertools import pairwise

import pytest

from client.load.workload import length, plan

FIXED = length("8")


def times(rate: float, until_s: float, seed: int = 0) -> list[float]:
    return [r.at_s for r in plan(rate=rate, until_s=until_s, prompt=FIXED, answer=FIXED, seed=seed)]


def test_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    arrivals = times(rate=50, until_s=200)
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert len(arrivals) == pytest.approx(10_000, rel=0.05)
    # The exponential distribution's deviation is its mean; that of evenly spaced arrivals is 0.
    assert statistics.fmean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 200


def test_a_seed_gives_the_same_requests_and_another_seed_gives_others() -> None:
    def requests(seed: int) -> list[object]:
        prompt, answer = length("normal:40:20"), length("uniform:4:64")
        return list(plan(rate=5, until_s=20, prompt=prompt, answer=answer, seed=seed))

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)


def test_another_rate_sends_the_same_texts() -> None:
    lengths = {"prompt": length("normal:40:20"), "answer": length("uniform:4:64")}
    slow = list(plan(rate=5, until_s=20, seed=3, **lengths))
    fast = list(plan(rate=50, until_s=20, seed=3, **lengths))
    assert [(r.prompt, r.max_tokens) for r in slow] == [(r.prompt, r.max_tokens) for r in fast][: len(slow)]


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("64", 64, 0),
        ("uniform:10:30", 20, 20 / 12**0.5),
        ("normal:200:20", 200, 20),
        ("exponential:300", 300, 300),
    ],
)
def test_lengths_follow_their_distribution(text: str, mean: float, deviation: float) -> None:
    drawn = [
        len(r.prompt.split()) for r in plan(rate=1, until_s=3000, prompt=length(text), answer=FIXED, seed=0)
    ]
    assert statistics.fmean(drawn) == pytest.approx(mean, rel=0.1)
    assert statistics.pstdev(drawn) == pytest.approx(deviation, rel=0.1, abs=0.6)


def test_a_length_is_at_least_one_token() -> None:
    requests = list(plan(rate=10, until_s=20, prompt=FIXED, answer=length("normal:1:5"), seed=0))
    assert min(request.max_tokens for request in requests) == 1


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "many", "uniform:9:3", "normal:5", "exponential:0", "zipf:2", "2000000"]
)
def test_a_length_that_is_none_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write it as|lengths are from"):
        length(text)
