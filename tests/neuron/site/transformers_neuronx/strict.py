"""The rules that the library does not enforce, enforced.

A rule is checked when breaking it would change somebody's text. A slot that is left out of a decode is free
from then on, as far as the library can know; naming it again without a prefill is the breach.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import torch

from transformers_neuronx.config import GenerationConfig

_FROM_PRETRAINED = {
    *("batch_size", "n_positions", "amp", "tp_degree", "context_length_estimate"),
    *("neuron_config", "context_unroll", "unroll"),
}


class ContractError(AssertionError):
    """A call that the library would answer, wrongly."""


def enabled() -> bool:
    return os.environ.get("TNX_EMULATOR_STRICT", "1") != "0"


def check_keywords(keywords: dict[str, Any]) -> None:
    unknown = set(keywords) - _FROM_PRETRAINED
    _require(not unknown, f"from_pretrained ignores {sorted(unknown)}")


class Rules:
    """Follows the calls of one model."""

    def __init__(self, slots: int, context_buckets: list[int], token_buckets: list[int]) -> None:
        self._slots = slots
        self._contexts, self._tokens = context_buckets, token_buckets
        self._next_position: dict[int, int] = {}
        self._spoilt: set[int] = set()
        self._thread = threading.get_ident()
        self._traced: GenerationConfig | None = None
        for name, buckets in (("context_length_estimate", context_buckets), ("n_positions", token_buckets)):
            _require(buckets == sorted(set(buckets)), f"{name} {buckets} is not ascending and unique")

    def traced(self, config: GenerationConfig) -> None:
        """Tracing has overwritten `config`."""
        self._traced = config

    def check_update(self, config: GenerationConfig) -> None:
        self._check_thread()
        _require(config is not self._traced, "the config that the model was built with is a handle now")
        self.check_generation(config)

    def check_generation(self, config: GenerationConfig) -> None:
        """Parameters that the graph can compute with."""
        limit = config.global_top_k or 2**31
        _require(
            config.dynamic and config.per_batch_line and config.do_sample,
            "sampling a slot at a time needs dynamic, per_batch_line and do_sample",
        )
        for value in config.temperature:
            _require(value > 0, f"temperature {value} divides by zero")
        for value in config.top_k:
            _require(1 <= value <= limit, f"top_k {value} is outside 1..{limit}")
        for value in config.top_p:
            _require(0 < value <= 1, f"top_p {value} is outside 0..1")

    def check_call(self, ids: torch.Tensor, cache_ids: torch.Tensor, start_ids: torch.Tensor) -> None:
        self._check_thread()
        given = (ids, cache_ids, start_ids)
        dtypes = [tensor.dtype for tensor in given]
        _require(dtypes == [torch.int64] * 3, f"dtypes {dtypes}, all must be int64")
        ranks = [tensor.ndim for tensor in given]
        _require(ranks == [2, 2, 1], f"ranks {ranks}, expected 2, 2 and 1")
        rows, width = ids.shape
        _require(cache_ids.shape == ids.shape and len(start_ids) == rows, "the shapes do not go together")
        slots: list[int] = start_ids.tolist()
        _require(len(set(slots)) == rows, f"a slot is named twice: {slots}")
        for slot in slots:
            _require(0 <= slot < self._slots, f"slot {slot} is outside 0..{self._slots - 1}")
        if width == 1:
            self._check_decode(slots, cache_ids[:, 0].tolist())
        else:
            _require(rows == 1, f"a prefill of {rows} rows, or prefill and decode in one call")
            self._check_prefill(slots[0], ids[0].tolist(), cache_ids[0].tolist())

    def _check_prefill(self, slot: int, ids: list[int], positions: list[int]) -> None:
        if positions == [0, 0]:
            _require(ids[1] == 0, "the second token of a prefill of one must be 0")
            length = 1
        else:
            length = len(ids)
            _require(positions == [*range(length)], f"positions of a prefill: {positions[:9]}...")
        _require(length <= self._contexts[-1], f"a prompt of {length} tokens beyond {self._contexts[-1]}")
        self._next_position[slot] = length
        self._spoilt.discard(slot)

    def _check_decode(self, slots: list[int], positions: list[int]) -> None:
        for slot, position in zip(slots, positions, strict=True):
            _require(slot in self._next_position, f"slot {slot} was never prefilled")
            _require(slot not in self._spoilt, f"slot {slot} was left out of a decode: its cache is spoilt")
            expected = self._next_position[slot]
            _require(position == expected, f"slot {slot}: position {position} after {expected - 1}")
            _require(position < self._tokens[-1], f"slot {slot}: position {position} of {self._tokens[-1]}")
            self._next_position[slot] = position + 1
        self._spoilt |= self._next_position.keys() - set(slots)

    def _check_thread(self) -> None:
        _require(threading.get_ident() == self._thread, "a call from another thread than to_neuron's")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)
