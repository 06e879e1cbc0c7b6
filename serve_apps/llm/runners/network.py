"""What the torch runner asks of a model: two forward passes over a slot cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from serve_apps.llm.runners.llama import LlamaNetwork, is_llama
from serve_apps.llm.runners.slot_cache import SlotCache


class Network(Protocol):
    """The cache has been told before where the tokens of a pass belong."""

    def prefill(self, ids: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Logits [prompts, vocabulary] after each prompt.

        `ids` and `positions` [tokens] hold the prompts one after the other; `lengths` says how long each is.
        """
        ...

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary]; `ids` and `positions` [rows], `visible` [rows, keys] of the cache."""
        ...


def network(model: Any, cache: SlotCache) -> Network:
    """The fastest way to compute `model`, which must not be used otherwise from here on."""
    return LlamaNetwork(model, cache) if is_llama(model) else ModuleNetwork(model, cache)


class ModuleNetwork:
    """transformers' own modules, unchanged: any model with full attention."""

    def __init__(self, model: Any, cache: SlotCache) -> None:
        self._model = model
        self._cache = cache

    def prefill(self, ids: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """See `Network`. One row [1, tokens] under a block-diagonal causal mask."""
        sizes = torch.tensor(lengths, device=ids.device)
        prompt_of_token = torch.arange(len(sizes), device=ids.device).repeat_interleave(sizes)
        same_prompt = prompt_of_token[:, None] == prompt_of_token[None, :]
        last_tokens = sizes.cumsum(dim=0) - 1
        return self._forward(ids[None], positions[None], same_prompt.tril()[None, None], last_tokens)[0]

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """See `Network`."""
        only_token = torch.zeros(1, dtype=torch.long, device=ids.device)
        return self._forward(ids[:, None], positions[:, None], visible[:, None, None], only_token)[:, 0]

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, last_tokens: torch.Tensor
    ) -> torch.Tensor:
        """Logits [rows, last tokens, vocabulary]; `mask` [rows, 1, tokens, keys] is true where visible."""
        return self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last_tokens,
        ).logits
