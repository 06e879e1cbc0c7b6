"""The host sampler against the reference: transformers' own logits processors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from serve_apps.llm.runners import SamplingParams
from serve_apps.llm.runners.sampling import CANDIDATES, RequestSampler, sample

VOCABULARY = 1000
POINTS = 500


class EvenlySpread(RequestSampler):
    """Draws one given number instead of a random one."""

    def __init__(self, params: SamplingParams, number: float) -> None:
        super().__init__(params)
        self.number = number

    def random(self) -> float:
        return self.number


def logits(spread: float, rows: int = 1, vocabulary: int = VOCABULARY, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocabulary, generator=generator)


def draw(row: torch.Tensor, params: SamplingParams, count: int) -> torch.Tensor:
    sampler = RequestSampler(params)
    return torch.tensor([sample(row, [sampler])[0] for _ in range(count)])


def reference(row: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    ids = torch.zeros(1, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(params.temperature)(ids, row)
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(ids, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(ids, scores)
    return scores.softmax(dim=-1)[0]


@pytest.mark.parametrize(
    ("spread", "params"),
    [
        (3.0, SamplingParams()),
        (3.0, SamplingParams(temperature=0.6)),
        (3.0, SamplingParams(top_p=0.9)),
        (3.0, SamplingParams(temperature=1.5, top_k=20)),
        (3.0, SamplingParams(temperature=0.8, top_k=40, top_p=0.7)),
        # what the 256 most likely tokens do not settle
        (0.5, SamplingParams()),
        (0.5, SamplingParams(top_p=0.95)),
        (0.5, SamplingParams(top_k=600, top_p=0.8)),
        (0.5, SamplingParams(top_k=5000)),
    ],
    ids=str,
)
def test_draws_follow_the_distribution_of_transformers(spread: float, params: SamplingParams) -> None:
    row = logits(spread)
    expected = reference(row, params)
    samplers = [EvenlySpread(params, (index + 0.5) / POINTS) for index in range(POINTS)]
    drawn = torch.bincount(torch.tensor(sample(row.expand(POINTS, -1), samplers)), minlength=VOCABULARY)
    assert drawn[expected == 0].sum() == 0
    # Each token owns one interval of the numbers, so its count is right to within one.
    assert (drawn - POINTS * expected).abs().max() <= 1.01


def test_a_flat_distribution_reaches_beyond_the_candidates() -> None:
    row = logits(0.1)
    likeliest = set(row[0].topk(CANDIDATES).indices.tolist())
    drawn = draw(row, SamplingParams(seed=1), 200).tolist()
    assert sum(token not in likeliest for token in drawn) > 100


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.05, 3.0),
    top_p=st.floats(0.001, 1.0),
    top_k=st.integers(0, 400),
    vocabulary=st.integers(1, 600),
)
def test_a_token_outside_top_k_and_top_p_is_never_drawn(
    seed: int, temperature: float, top_p: float, top_k: int, vocabulary: int
) -> None:
    params = SamplingParams(temperature, top_p, top_k, seed)
    row = logits(2.0, vocabulary=vocabulary, seed=seed)
    (token,) = sample(row, [RequestSampler(params)])
    ranked = (row[0] / temperature).softmax(dim=-1).double()
    kept = ranked.sort(descending=True).values[: top_k or None]
    mass_before = kept[kept > ranked[token]].sum() / kept.sum()
    assert ranked[token] >= kept[-1]
    assert mass_before < top_p + 1e-5


@pytest.mark.parametrize("params", [SamplingParams(temperature=0), SamplingParams(top_k=1)], ids=str)
def test_greedy_takes_the_most_likely_token_of_each_row(params: SamplingParams) -> None:
    rows = logits(1.0, rows=5)
    assert sample(rows, [RequestSampler(params)] * 5) == rows.argmax(dim=-1).tolist()


def test_a_vanishing_temperature_is_greedy_too() -> None:
    row = logits(1.0)
    assert sample(row, [RequestSampler(SamplingParams(temperature=1e-300))]) == [int(row.argmax())]


def test_a_seed_fixes_the_answer_whoever_is_sampled_beside_it() -> None:
    steps = [logits(2.0, rows=4, seed=step) for step in range(20)]
    params = SamplingParams(temperature=0.9, top_p=0.95, seed=7)

    def answer(row: int, beside: SamplingParams) -> list[int]:
        samplers = [RequestSampler(params if index == row else beside) for index in range(4)]
        return [sample(step, samplers)[row] for step in steps]

    assert answer(2, SamplingParams(temperature=0)) == answer(2, SamplingParams(temperature=2.0))
    assert answer(2, SamplingParams()) != answer(1, SamplingParams())


def test_without_a_seed_two_requests_differ() -> None:
    row = logits(0.1)
    assert draw(row, SamplingParams(), 20).tolist() != draw(row, SamplingParams(), 20).tolist()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 + 5], ids=str)
def test_any_integer_is_a_seed(seed: int) -> None:
    row = logits(0.1)
    params = SamplingParams(seed=seed)
    assert draw(row, params, 20).tolist() == draw(row, params, 20).tolist()
