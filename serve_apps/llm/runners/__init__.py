"""The contract between the slot engine and whatever computes tokens.

A runner owns the weights and the KV cache of `slots` sequences of at most `max_len` tokens. It is driven by
one thread, in steps; between two steps nothing of it runs. The contract is the one transformers-neuronx
imposes (one program over a fixed batch of slots), so a runner on a CPU and a runner on NeuronCores stand
behind the same scheduler.

Rules, asserted by `serve_apps.llm.runners.checked.CheckedRunner` in every test:

* `load` is called once, first; `close` once, last; every call comes from the same thread.
* `prefill` gets at most `capabilities.prefill_rows` items and `capabilities.prefill_tokens` tokens in all
  (a single item may use up to `max_prompt` by itself), for distinct slots that are free.
* A prefilled slot is live until `release`d. `decode` names *exactly* the live slots, in ascending order: on
  transformers-neuronx a live slot that is left out has its KV cache overwritten.
* The first `decode` row of a slot has `position == len(prompt)` and the token that `prefill` sampled; every
  later one has the token of the step before and a position one higher. `position < max_len`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class UnsupportedModelError(ValueError):
    """The model needs something that the runner does not do; the message names it."""


@dataclass(frozen=True)
class SamplingParams:
    """How the next token of one request is chosen.

    `temperature` 0 means greedy. `top_k` 0 means no limit. `seed` None means a seed drawn by the runner.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0.0 or self.top_k == 1


@dataclass(frozen=True)
class Capabilities:
    """What a loaded runner can do; all sizes are in tokens or rows.

    Known before `load`, because admission depends on them and a refused request must not wait for weights.
    """

    slots: int
    max_len: int
    max_prompt: int
    prefill_rows: int
    prefill_tokens: int
    sampling: Literal["device", "host"]
    max_top_k: int | None = None
    seed: bool = True
    top_logprobs: int = 0


@dataclass(frozen=True)
class Prefill:
    """One prompt to put into a free slot: at least one token id, at most `max_prompt`."""

    slot: int
    ids: Sequence[int]
    sampling: SamplingParams


@dataclass(frozen=True)
class Row:
    """One live slot of a decode step: the last token and the position it takes in the sequence."""

    slot: int
    token: int
    position: int


@dataclass(frozen=True)
class Sampled:
    """The token a step chose for one slot, with its log-probability where the runner computes it."""

    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = field(default=())


class Runner(Protocol):
    """See the module's docstring for the rules of the calls."""

    @property
    def capabilities(self) -> Capabilities:
        """Limits and abilities; constant over the runner's life."""
        ...

    def load(self) -> None:
        """Read the weights, allocate the KV cache, warm up. May take minutes."""
        ...

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """Write the prompts into their slots and sample one token each; same order as `items`."""
        ...

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """Advance every live slot by one token; same order as `rows`."""
        ...

    def release(self, slot: int) -> None:
        """Forget a live slot; it may be prefilled again."""
        ...

    def close(self) -> None:
        """Free the weights and the cache."""
        ...
