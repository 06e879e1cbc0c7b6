"""Llama and Mistral models on NeuronCores, by the continuous batching of transformers-neuronx 0.13.

The library compiles a graph for each bucket of prompt lengths and each of cache lengths, over a fixed batch
of slots. How it must be called, and what it does to those who call it otherwise, is in docs/neuron.md; in
short:

* A prefill is one row; its prompt starts at position 0 of a slot, whatever was there before.
* A decode computes every slot. A slot that is not named gets token 0 written to its position 0, so all live
  slots have to be named, which is what the contract of `serve_apps.llm.runners` says.
* Everything is int64, and nothing raises for most mistakes: the text is just wrong.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from serve_apps.llm.args import DType
from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled, SamplingParams, UnsupportedModelError
from serve_apps.llm.runners.neuronx_buckets import context_buckets, token_buckets
from serve_apps.llm.runners.neuronx_cache import CompileCache, verdict
from serve_apps.llm.runners.neuronx_library import load_library
from serve_apps.llm.runners.neuronx_model import check_model, kv_heads
from serve_apps.llm.runners.neuronx_sampling import GLOBAL_TOP_K, DeviceSampling, HostSampling, TokenChooser
from serve_apps.neuron_library import check_visible_cores

logger = logging.getLogger(__name__)

_AMP: dict[DType, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# The library starts a compiler for every graph at once unless told otherwise, and each takes gigabytes.
_MOST_COMPILERS = 4
_GREEDY = SamplingParams(temperature=0.0)


class NeuronxRunner:
    """A `Runner` over a model directory in Hugging Face format.

    A replica has `tensor_parallel` NeuronCores. Raises `UnsupportedModelError` for a model, or a number of
    slots, that the library would compute wrongly or not at all.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        slots: int,
        max_len: int,
        tensor_parallel: int,
        dtype: DType = "bfloat16",
        sampling: Literal["device", "host"] = "host",
    ) -> None:
        check_model(model_dir, max_len=max_len)
        if slots < 2:
            # layers/attention.py, fused_kv_update_cache: a prefill needs more slots than rows.
            raise UnsupportedModelError(
                f"slots is {slots}; transformers-neuronx cannot prefill a batch of one slot, "
                "set slots to 2 or more"
            )
        self._model_dir = model_dir
        self._tensor_parallel = tensor_parallel
        self._amp = _AMP[dtype]
        self._context_buckets = context_buckets(max_len)
        self._token_buckets = token_buckets(max_len)
        self._model: Any = None
        self._chooser: TokenChooser = HostSampling()
        on_device = sampling == "device"
        self._capabilities = Capabilities(
            slots=slots,
            max_len=max_len,
            max_prompt=max_len - 1,
            prefill_rows=1,
            prefill_tokens=max_len - 1,
            sampling=sampling,
            max_top_k=GLOBAL_TOP_K if on_device else None,
            seed=not on_device,
        )

    @property
    def capabilities(self) -> Capabilities:
        """See `Runner`."""
        return self._capabilities

    def load(self) -> None:
        """Load the weights, take the graphs from the compile cache or compile them, run each once."""
        check_visible_cores(self._tensor_parallel, "tensor_parallel")
        began = time.monotonic()
        with self._logged_cache():
            self._model = self._from_pretrained(self._library())
            compile_s = _timed(self._model, "compile")
            self._model.to_neuron()
        loaded = time.monotonic()
        self._warm_up()
        logger.info(
            "weights to the device %.1f s, graphs %.1f s, warm-up %.1f s",
            loaded - began - compile_s(),
            compile_s(),
            time.monotonic() - loaded,
        )

    def compile(self) -> None:
        """Put the graphs that `load` takes into the compile cache. Needs no NeuronCore, and loads nothing.

        `cpu_compile` traces and compiles as `to_neuron` does, with the weights in the host's memory
        (src/transformers_neuronx/base.py and decoder.py, commit 1ade6d7, looked at 2026-11).
        """
        with self._logged_cache():
            self._from_pretrained(self._library()).cpu_compile()

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """See `Runner`."""
        (item,) = items  # the library passes the graph too few inputs for more
        ids, positions = list(item.ids), list(range(len(item.ids)))
        if len(ids) == 1:
            # A single token would be taken for a decode. Two at one position stay a prefill of one: the last
            # token is the one with the highest position.
            ids, positions = [ids[0], 0], [0, 0]
        changed = self._chooser.assign(item.slot, item.sampling)
        if changed is not None:
            self._model.update_generation_config(changed)
        return self._step([ids], [positions], [item.slot])

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """See `Runner`."""
        return self._step(
            [[row.token] for row in rows], [[row.position] for row in rows], [row.slot for row in rows]
        )

    def release(self, slot: int) -> None:
        """See `Runner`. What the slot held stays in the cache until the next prompt overwrites it."""
        self._chooser.release(slot)

    def close(self) -> None:
        """See `Runner`. The runtime gives the cores back when the process ends."""
        self._model = None

    def _library(self) -> Any:
        library = load_library()
        if self._capabilities.sampling == "device":
            limits = self._capabilities
            self._chooser = DeviceSampling(library, slots=limits.slots, max_len=limits.max_len)
        return library

    @contextmanager
    def _logged_cache(self) -> Generator[None, None, None]:
        cache = CompileCache()
        before = cache.graphs()
        yield
        logger.info(
            "compile cache %s: %s; %d prefill and %d decode graphs",
            cache.url,
            verdict(before, cache.graphs()),
            len(self._context_buckets),
            len(self._token_buckets),
        )

    def _from_pretrained(self, library: Any) -> Any:
        limits = self._capabilities
        return library.NeuronAutoModelForCausalLM.from_pretrained(
            str(self._model_dir),
            batch_size=limits.slots,
            tp_degree=self._tensor_parallel,
            amp=self._amp,
            n_positions=self._token_buckets,
            context_length_estimate=self._context_buckets,
            neuron_config=library.NeuronConfig(
                continuous_batching=library.ContinuousBatchingConfig(
                    batch_size_for_shared_caches=limits.slots
                ),
                attention_layout=library.Layout.BSH,
                collectives_layout=library.Layout.BSH,
                fuse_qkv=True,
                group_query_attention=self._head_sharding(library),
                on_device_generation=self._chooser.generation_config(),
                compilation_worker_count=min(_MOST_COMPILERS, os.cpu_count() or 1),
            ),
        )

    def _head_sharding(self, library: Any) -> Any:
        """Whole key and value heads on each core where they go round, copies of them where they do not."""
        if kv_heads(self._model_dir) % self._tensor_parallel == 0:
            return library.GQA.SHARD_OVER_HEADS
        return library.GQA.REPLICATED_HEADS

    def _warm_up(self) -> None:
        """Run every prefill graph, each followed by a decode: what cannot run must not become ready."""
        for bucket in self._context_buckets:
            length = min(bucket, self._capabilities.max_prompt)
            (first,) = self.prefill([Prefill(0, [0] * length, _GREEDY)])
            self.decode([Row(0, first.token, length)])
            self.release(0)

    def _step(self, ids: list[list[int]], positions: list[list[int]], slots: list[int]) -> list[Sampled]:
        with torch.inference_mode():
            output: torch.Tensor = self._model(
                torch.tensor(ids, dtype=torch.int64),
                cache_ids=torch.tensor(positions, dtype=torch.int64),
                start_ids=torch.tensor(slots, dtype=torch.int64),
            )
        return [Sampled(token) for token in self._chooser.choose(output, slots)]


def _timed(model: Any, method: str) -> Callable[[], float]:
    """Let calls of `method` on `model` be timed; the returned function says how many seconds they took."""
    original, spent = getattr(model, method), [0.0]

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        try:
            return original(*args, **kwargs)
        finally:
            spent[0] += time.monotonic() - began

    setattr(model, method, timed)
    return lambda: spent[0]
