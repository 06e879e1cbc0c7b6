"""Who chooses the tokens: the host from logits, or the device inside the compiled graph.

A compiled model does one or the other. On the host everything that the API offers works. On the device only
token ids leave the graph, so there is no seed, and candidates are the `GLOBAL_TOP_K` most likely tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from serve_apps.llm.runners import SamplingParams
from serve_apps.llm.runners.sampling import RequestSampler, sample

# Candidates of a token on the device. The graph counts them in the type of the logits, and bfloat16 counts
# exactly up to 256 only.
GLOBAL_TOP_K = 64
# The device divides by the temperature; below this nothing but the most likely token would come out anyway.
_LOWEST_TEMPERATURE = 1e-3


class TokenChooser(Protocol):
    """Turns what a step returns into tokens, each slot by its own request's parameters."""

    def generation_config(self) -> Any | None:
        """What the model is compiled with, a new object at each call; None for logits."""
        ...

    def assign(self, slot: int, params: SamplingParams) -> Any | None:
        """The next prompt goes into `slot`; what has to be written to the device before its prefill."""
        ...

    def release(self, slot: int) -> None:
        """The slot's request has ended."""
        ...

    def choose(self, output: torch.Tensor, slots: Sequence[int]) -> list[int]:
        """A token for each of `slots`, which are the rows of `output`."""
        ...


class HostSampling:
    """Takes logits [rows, vocabulary]."""

    def __init__(self) -> None:
        self._samplers: dict[int, RequestSampler] = {}

    def generation_config(self) -> None:
        """See `TokenChooser`."""

    def assign(self, slot: int, params: SamplingParams) -> None:
        """See `TokenChooser`."""
        self._samplers[slot] = RequestSampler(params)

    def release(self, slot: int) -> None:
        """See `TokenChooser`."""
        del self._samplers[slot]

    def choose(self, output: torch.Tensor, slots: Sequence[int]) -> list[int]:
        """See `TokenChooser`."""
        return sample(output, [self._samplers[slot] for slot in slots])


@dataclass(frozen=True)
class _Line:
    """The parameters of one slot, as the graph takes them. The default is greedy.

    Greedy is `top_k` 1: a `temperature` of 0 would divide by zero, a `top_k` of 0 would mask every token.
    """

    top_k: int = 1
    top_p: float = 1.0
    temperature: float = 1.0

    @classmethod
    def of(cls, params: SamplingParams) -> _Line:
        if params.greedy or params.temperature < _LOWEST_TEMPERATURE:
            return cls()
        return cls(params.top_k or GLOBAL_TOP_K, params.top_p, params.temperature)


class DeviceSampling:
    """Takes token ids [rows, 1], sampled by a graph that looks up its parameters by slot.

    The lists are kept here, because tracing overwrites those in the object that the model was given.
    """

    def __init__(self, library: Any, *, slots: int, max_len: int) -> None:
        self._library = library
        self._max_len = max_len
        self._lines = [_Line()] * slots

    def generation_config(self) -> Any:
        """See `TokenChooser`."""
        return self._library.GenerationConfig(
            max_length=self._max_len,
            do_sample=True,
            dynamic=True,
            per_batch_line=True,
            global_top_k=GLOBAL_TOP_K,
            top_k=[line.top_k for line in self._lines],
            top_p=[line.top_p for line in self._lines],
            temperature=[line.temperature for line in self._lines],
        )

    def assign(self, slot: int, params: SamplingParams) -> Any | None:
        """See `TokenChooser`. None if the slot's parameters are those that it has already."""
        line = _Line.of(params)
        if line == self._lines[slot]:
            return None
        self._lines[slot] = line
        return self.generation_config()

    def release(self, slot: int) -> None:
        """See `TokenChooser`. A free slot samples on by its last parameters, and nobody looks."""

    def choose(self, output: torch.Tensor, slots: Sequence[int]) -> list[int]:
        """See `TokenChooser`. Raises ValueError if the model returned anything but a token a row."""
        if output.numel() != len(slots):
            raise ValueError(f"the model returned {tuple(output.shape)} tokens for {len(slots)} rows")
        return output.flatten().tolist()
