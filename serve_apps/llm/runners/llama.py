"""A forward pass for Llama and its closest relatives, without the cost of a module tree.

A small model spends much of a decode step between its matrix products: in module calls, in small operators,
in products that could be one. Here all tokens are the rows of one matrix, query, key and value are one
product, gate and up are another, and a prompt attends to itself without a mask. Loading the weights and
computing the rotary angles stay transformers' work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import nn

from serve_apps.llm.runners.linear import best_linear
from serve_apps.llm.runners.slot_cache import SlotCache

_ARCHITECTURES = {"LlamaForCausalLM", "MistralForCausalLM"}

# (layer, query [tokens, heads, head_dim], key and value [tokens, kv_heads, head_dim]) -> like the query
_Attention = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def is_llama(model: Any) -> bool:
    """Whether `LlamaNetwork` computes what transformers' `model` does."""
    config = model.config
    return (
        type(model).__name__ in _ARCHITECTURES
        and config.hidden_act == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
    )


class LlamaNetwork:
    """A `Network` with the weights of `model`, which it takes apart."""

    def __init__(self, model: Any, cache: SlotCache) -> None:
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        self._cache = cache
        self._embed = model.model.embed_tokens
        self._rotary = model.model.rotary_emb
        self._norm = _norm(model.model.norm)
        self._head = best_linear(model.lm_head.weight.detach(), shared=tied)
        self._layers: list[_Layer] = []
        while model.model.layers:  # one after the other, so that memory holds no second copy
            self._layers.append(_Layer(model.model.layers.pop(0)))

    def prefill(self, ids: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """See `Network`."""
        states = self._forward(ids, positions, partial(self._attend_to_prompts, lengths))
        return self._head(states[torch.tensor(lengths, device=ids.device).cumsum(dim=0) - 1])

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """See `Network`."""
        mask = visible[:, None, None, :]
        return self._head(self._forward(ids, positions, partial(self._attend_to_cache, mask)))

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, attend: _Attention) -> torch.Tensor:
        states = self._embed(ids)
        cos, sin = (angles[0, :, None] for angles in self._rotary(states, positions[None]))
        half = sin.shape[-1] // 2
        rotation = cos, torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        for index, layer in enumerate(self._layers):
            layer.advance(states, rotation, partial(attend, index))
        return self._norm(states)

    def _attend_to_prompts(
        self, lengths: Sequence[int], layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query, key, value = (states.transpose(0, 1)[None] for states in (query, key, value))
        self._cache.update(key, value, layer)
        prompts = zip(*(states.split(list(lengths), dim=2) for states in (query, key, value)), strict=True)
        seen = [
            F.scaled_dot_product_attention(*prompt, is_causal=True, enable_gqa=True) for prompt in prompts
        ]
        return torch.cat(seen, dim=2)[0].transpose(0, 1)

    def _attend_to_cache(
        self, mask: torch.Tensor, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        keys, values = self._cache.update(key[:, :, None], value[:, :, None], layer)
        # The heads that share a key head stand where queries do, so that no key is copied for them.
        grouped = query.unflatten(1, (key.shape[1], -1))
        return F.scaled_dot_product_attention(grouped, keys, values, mask).flatten(1, 2)


class _Layer:
    """One decoder layer, made of transformers' own."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._head_dim: int = attention.head_dim
        rows = [attention.q_proj.out_features, attention.k_proj.out_features, attention.v_proj.out_features]
        self._heads = [number // self._head_dim for number in rows]
        self._attention_norm, self._mlp_norm = (
            _norm(layer.input_layernorm),
            _norm(layer.post_attention_layernorm),
        )
        self._qkv = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self._output = _joined(attention.o_proj)
        self._gate_up = _joined(mlp.gate_proj, mlp.up_proj)
        self._down = _joined(mlp.down_proj)

    def advance(
        self,
        states: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        """Add to `states` [tokens, hidden] what this layer makes of them."""
        cos, signed_sin = rotation
        queries, keys, values = self._heads
        heads = self._qkv(self._attention_norm(states)).unflatten(1, (-1, self._head_dim))
        turned, value = heads.split([queries + keys, values], dim=1)
        turned = (turned * cos).addcmul_(turned.roll(self._head_dim // 2, dims=-1), signed_sin)
        query, key = turned.split([queries, keys], dim=1)
        states += self._output(attend(query, key, value).flatten(1))
        gate, up = self._gate_up(self._mlp_norm(states)).chunk(2, dim=-1)
        states += self._down(F.silu(gate).mul_(up))


def _joined(*linears: Any) -> nn.Module:
    """One product in place of several over the same input; the several lose their weights."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    for linear in linears:
        del linear.weight
    return best_linear(weight)


def _norm(norm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    weight = norm.weight.detach()
    return partial(F.rms_norm, normalized_shape=weight.shape, weight=weight, eps=norm.variance_epsilon)
