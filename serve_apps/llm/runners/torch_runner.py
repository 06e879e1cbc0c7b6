"""Hugging Face weights on a CPU or an NVIDIA GPU.

In each layer the KV cache is one tensor [slots, kv_heads, max_len, head_dim] for keys and one for values.
A step tells the cache which slot and position each of its tokens has:

* A prefill packs its prompts into one row of tokens, so prompts of different lengths share a forward pass
  and nothing is padded.
* A decode computes the live slots and no others. On a CPU a dead row costs as much as a live one: if all of
  8 slots were computed, a lone stream would run at half its speed. The price is that matrix kernels may
  round differently for another number of rows, so in bfloat16 an answer can depend on how many others are
  decoded beside it, though never on what they say.
* Decoding reads the cache up to the longest live sequence only, rounded up to 64 tokens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from serve_apps.llm.args import DType
from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled, SamplingParams, UnsupportedModelError
from serve_apps.llm.runners.network import network
from serve_apps.llm.runners.sampling import RequestSampler, sample
from serve_apps.llm.runners.slot_cache import SlotCache

logger = logging.getLogger(__name__)

_MIB = 2**20
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class TorchRunner:
    """A `Runner` over a model directory in Hugging Face format.

    `threads` are those of a step on the CPU; by default as many as `available_cpus`. Raises
    `UnsupportedModelError` for a model whose attention the slot cache cannot serve.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        slots: int,
        max_len: int,
        prefill_tokens: int,
        device: Literal["cpu", "cuda"] = "cpu",
        dtype: DType = "bfloat16",
        threads: int | None = None,
    ) -> None:
        self._model_dir = model_dir
        self._config: Any = AutoConfig.from_pretrained(model_dir)
        _check_attention(self._config, max_len)
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._threads = threads or available_cpus()
        self._network: Any = None
        self._cache = SlotCache(slots, max_len)
        self._samplers: dict[int, RequestSampler] = {}
        self._capabilities = Capabilities(
            slots=slots,
            max_len=max_len,
            max_prompt=max_len - 1,
            prefill_rows=slots,
            prefill_tokens=prefill_tokens,
            sampling="host",
        )

    @property
    def capabilities(self) -> Capabilities:
        """See `Runner`."""
        return self._capabilities

    def load(self) -> None:
        """Read the weights straight into their dtype; a first step then allocates the cache."""
        torch.set_num_threads(self._threads)
        disable_progress_bar()  # it is noise in a replica's log
        model: Any = AutoModelForCausalLM.from_pretrained(
            self._model_dir, config=self._config, dtype=self._dtype, attn_implementation="sdpa"
        )
        model = model.to(self._device).eval()
        weight_bytes = sum(parameter.nbytes for parameter in model.parameters())
        with torch.inference_mode():
            self._network = network(model, self._cache)
        (first,) = self.prefill([Prefill(slot=0, ids=(0,), sampling=SamplingParams(temperature=0))])
        self.decode([Row(slot=0, token=first.token, position=1)])
        self.release(0)
        self._log_what_was_loaded(weight_bytes)

    @torch.inference_mode()
    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """See `Runner`."""
        lengths = [len(item.ids) for item in items]
        ids = torch.tensor([token for item in items for token in item.ids], device=self._device)
        positions = torch.cat([torch.arange(length, device=self._device) for length in lengths])
        slots = torch.tensor([item.slot for item in items for _ in item.ids], device=self._device)
        self._cache.place_prefill(slots, positions)
        logits = self._network.prefill(ids, positions, lengths)
        self._samplers.update((item.slot, RequestSampler(item.sampling)) for item in items)
        return self._sample(logits, [item.slot for item in items])

    @torch.inference_mode()
    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """See `Runner`."""
        slots = [row.slot for row in rows]
        ids = torch.tensor([row.token for row in rows], device=self._device)
        positions = torch.tensor([row.position for row in rows], device=self._device)
        attended = self._cache.place_decode(slots, positions, longest=1 + max(row.position for row in rows))
        visible = torch.arange(attended, device=self._device) <= positions[:, None]
        return self._sample(self._network.decode(ids, positions, visible), slots)

    def release(self, slot: int) -> None:
        """See `Runner`. What the slot held stays in the cache until the next prompt overwrites it."""
        del self._samplers[slot]

    def close(self) -> None:
        """See `Runner`."""
        self._network = None
        self._cache.layers.clear()

    def _sample(self, logits: torch.Tensor, slots: Sequence[int]) -> list[Sampled]:
        """One token for each row of `logits` [len(slots), vocabulary]."""
        return [Sampled(token) for token in sample(logits, [self._samplers[slot] for slot in slots])]

    def _log_what_was_loaded(self, weight_bytes: int) -> None:
        limits, cache_bytes = self._capabilities, self._cache.bytes
        logger.info(
            "weights: %d MiB, one copy, %s on %s; KV cache: %d MiB = %d slots x %d tokens x %d bytes; "
            "%d CPU threads",
            weight_bytes // _MIB,
            str(self._dtype).removeprefix("torch."),
            self._device,
            cache_bytes // _MIB,
            limits.slots,
            limits.max_len,
            cache_bytes // (limits.slots * limits.max_len),
            self._threads,
        )


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and the quota of its container (cgroup v2)."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
    except FileNotFoundError:
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def _check_attention(config: Any, max_len: int) -> None:
    """Refuse what the decode mask (every earlier token is visible) would silently compute wrongly."""
    layer_types: set[str] = set(getattr(config, "layer_types", None) or ())
    unknown = layer_types - {"full_attention", "sliding_attention"}
    if unknown:
        raise UnsupportedModelError(
            f"model type {config.model_type!r} has layers of type {', '.join(sorted(unknown))}; "
            "the torch engine serves models with full attention only"
        )
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in layer_types or not layer_types
    if window is not None and slides and max_len > window:
        raise UnsupportedModelError(
            f"max_model_len is {max_len}, but this model attends to a sliding window of {window} tokens, "
            f"which the torch engine does not do; set max_model_len to {window} or less"
        )
