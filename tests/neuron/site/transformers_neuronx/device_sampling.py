"""Sampling inside the decode graph: one set of parameters a slot, looked up in tensors on the device."""

from __future__ import annotations

from typing import Any

import torch

from transformers_neuronx.config import GenerationConfig

_FIELDS = {
    "top_k": torch.int32,
    "top_p": torch.float32,
    "temperature": torch.float32,
    "top_p_min_tokens": torch.int32,
}
_MASKED = -30000.0  # the library's stand-in for minus infinity


class TracedParameter:
    """What tracing leaves in the `GenerationConfig` that the model was given: a handle into the graph."""


class DeviceSampler:
    """Samples for slots by the parameters last written."""

    def __init__(self, config: GenerationConfig, slots: int) -> None:
        self._config, self._slots = config, slots
        self._generator = torch.Generator().manual_seed(0)
        self._written: dict[str, torch.Tensor] = {}
        self.write(config)
        self._global_top_k, self._per_line = config.global_top_k, config.per_batch_line

    def trace(self) -> None:
        """Building the graph overwrites the lists in the object that it was configured with."""
        if self._config.dynamic:
            for name in _FIELDS:
                setattr(self._config, name, TracedParameter())

    def write(self, config: GenerationConfig) -> None:
        """Put the parameters of `config` on the device; raises what torch makes of anything but numbers."""
        if self._written:
            assert config.per_batch_line == self._per_line, "per_batch_line differs from the compiled one"
        values: dict[str, Any] = {}
        for name in _FIELDS:
            value = getattr(config, name)
            values[name] = value if isinstance(value, list) else [value] * self._slots
            assert len(values[name]) == self._slots, (
                f"{name} has {len(values[name])} lines, not {self._slots}"
            )
        self._written = {name: torch.tensor(values[name], dtype=dtype) for name, dtype in _FIELDS.items()}

    def __call__(self, logits: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """Tokens [rows, 1] of logits [vocabulary, 1, rows]; row i is sampled as slot `slots[i]`."""
        rows = logits[:, 0].T
        ranked = rows.topk(min(self._global_top_k or rows.shape[1], rows.shape[1]), dim=-1)
        tokens = [
            ids[self._rank(values, int(slot) % self._slots)]
            for values, ids, slot in zip(ranked.values, ranked.indices, slots, strict=True)
        ]
        return torch.stack(tokens)[:, None]

    def _rank(self, logits: torch.Tensor, slot: int) -> int:
        top_k, top_p, temperature, least = (self._written[name][slot] for name in _FIELDS)
        places = torch.arange(len(logits))
        logits = logits / temperature
        logits = logits.masked_fill(places >= top_k, _MASKED)
        kept = (logits.softmax(-1).cumsum(-1) < top_p).sum()
        logits = logits.masked_fill(places > torch.maximum(least - 1, kept), _MASKED)
        cumulative = logits.softmax(-1).cumsum(-1)
        if cumulative.isnan().any():
            return len(logits) - 1  # whatever hardware makes of NaN, it is no draw
        point = torch.rand((), generator=self._generator) * cumulative[-1]
        return min(int(torch.searchsorted(cumulative, point, right=True)), len(logits) - 1)
