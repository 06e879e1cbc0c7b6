"""Sampling on the host: from rows of logits to one token each.

A full sort of the vocabulary costs more than a small model's whole step, so a row's candidates are its 256
most likely tokens, with their probabilities over the whole vocabulary. Only where those do not settle the
draw (a top_k above 256, a top_p that reaches beyond them, a draw from the tail) is the row sorted in full:
the result is exact either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from serve_apps.llm.runners import SamplingParams

CANDIDATES = 256
_LOWEST_TEMPERATURE = 1e-6  # as good as greedy, and nothing overflows
_SEED_MASK = 2**64 - 1  # what a generator takes; a longer seed must not stop the runner


class RequestSampler:
    """Chooses the tokens of one request.

    It takes one random number a token, whatever the path: with a seed, the same logits give the same answer.
    """

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.temperature = max(params.temperature, _LOWEST_TEMPERATURE)
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed & _SEED_MASK)

    def random(self) -> float:
        """The request's next random number, in [0, 1)."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def choose(self, likely: torch.Tensor, ids: torch.Tensor, logits: torch.Tensor) -> int:
        """The next token.

        `likely` are the probabilities of the most likely tokens, descending, and `ids` those tokens;
        `logits` [vocabulary], divided by the temperature, are looked at only when these are not enough.
        """
        point = self.random()
        if not self._settled_by(likely, len(logits), point):
            ranked = logits.softmax(dim=-1).sort(descending=True)
            likely, ids = ranked.values.cpu(), ranked.indices
        return int(ids[self._rank(likely, len(logits), point)])

    def _settled_by(self, likely: torch.Tensor, vocabulary: int, point: float) -> bool:
        if len(likely) == vocabulary:
            return True
        if self.params.top_k:
            return self.params.top_k <= len(likely)
        needed = self.params.top_p if self.params.top_p < 1 else point
        return float(likely.sum(dtype=torch.float64)) > needed

    def _rank(self, likely: torch.Tensor, vocabulary: int, point: float) -> int:
        """Where `point`, a number in [0, 1), falls among the tokens that top_k and top_p keep."""
        cumulative = likely[: self.params.top_k or None].cumsum(dim=0, dtype=torch.float64)
        if self.params.top_k or len(likely) == vocabulary:
            cumulative /= cumulative[-1].clone()
        if self.params.top_p < 1:
            cumulative = cumulative[: int(torch.searchsorted(cumulative, self.params.top_p)) + 1]
            point *= float(cumulative[-1])
        return min(int(torch.searchsorted(cumulative, point, right=True)), len(cumulative) - 1)


def sample(logits: torch.Tensor, samplers: Sequence[RequestSampler]) -> list[int]:
    """One token id for each row of `logits` [rows, vocabulary], each by its own request's sampler.

    Temperature scales the logits, then top_k keeps the most likely tokens, then top_p keeps the fewest of
    those that together reach that share, at least one.
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    drawn = [row for row, sampler in enumerate(samplers) if not sampler.params.greedy]
    if drawn:
        choices = _draw(logits[drawn].float(), [samplers[row] for row in drawn])
        for row, token in zip(drawn, choices, strict=True):
            tokens[row] = token
    return tokens


def _draw(logits: torch.Tensor, samplers: Sequence[RequestSampler]) -> list[int]:
    temperatures = torch.tensor([[sampler.temperature] for sampler in samplers], device=logits.device)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperatures
    top = logits.topk(min(CANDIDATES, logits.shape[-1]), dim=-1)
    likely = (top.values - logits.logsumexp(dim=-1, keepdim=True)).exp().cpu()
    ids = top.indices.cpu()
    return [sampler.choose(likely[row], ids[row], logits[row]) for row, sampler in enumerate(samplers)]
