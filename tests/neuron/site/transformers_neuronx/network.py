"""Llama and Mistral in plain torch, as two graphs over one cache; the weights are read from safetensors.

The cache of a layer is [positions, slots, key-value heads, head size], keys and values; a graph of bucket n
sees its first n positions, flattened to rows `position * slots + slot`, and drops writes beyond them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
UNWRITTEN = float("nan")


class Network:
    """`positions` x `slots` of cache, and the two kinds of graphs that share it."""

    def __init__(self, directory: Path, *, amp: str, slots: int, positions: int) -> None:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.kv_heads: int = config.get("num_key_value_heads") or self.heads
        self.head_size: int = config["hidden_size"] // self.heads  # as the library, whatever head_dim says
        self.vocabulary: int = config["vocab_size"]
        self._epsilon: float = config["rms_norm_eps"]
        self._theta: float = config.get("rope_theta", 10000.0)
        if config.get("rope_scaling") and config["model_type"] == "llama":
            raise NotImplementedError("the emulator knows RoPE without scaling only")
        self._window: int | None = config.get("sliding_window") if config["model_type"] == "mistral" else None
        self._dtype = _DTYPES[amp]
        self._weights = _read(directory, self._dtype)
        self._slots = slots
        shape = (self.layers, positions, slots, self.kv_heads, self.head_size)
        self.keys = torch.full(shape, UNWRITTEN, dtype=self._dtype)
        self.values = torch.full(shape, UNWRITTEN, dtype=self._dtype)

    def prefill(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Inputs [1, bucket] ids, [1, bucket] cache ids, [1] slot, [1] last token; logits [vocabulary, 1, 1].

        The mask is causal and the cache is written from position 0 on, whatever the cache ids say: they only
        rotate. So what stands behind the last token is written too; nobody may read it, hence NaN.
        """
        ids, cache_ids, slot, last = (tensor.long() for tensor in inputs[:4])
        length = ids.shape[1]
        steps = torch.arange(length)
        visible = steps[:, None] >= steps[None, :]
        if self._window is not None:
            visible &= steps[:, None] < steps[None, :] + self._window
        rows = steps * self._slots + slot
        inside = rows < length * self._slots
        if 0 <= int(slot) < self._slots:
            self.keys[:, :, slot] = self.values[:, :, slot] = UNWRITTEN
        hidden = self._embed(ids[0])
        for layer in range(self.layers):
            queries, keys, values = self._attention_inputs(layer, hidden, cache_ids[0])
            for cache, written in ((self.keys, keys), (self.values, values)):
                # A view of the layer's memory: the rows of a slot that is not there are those of others.
                flat = cache[layer].view(-1, self.kv_heads, self.head_size)
                flat[rows[inside]] = written[inside]
            hidden = self._finish_layer(layer, hidden, self._attend(queries, keys, values, visible))
        if 0 <= int(slot) < self._slots:
            self.keys[:, int(last) + 1 :, slot] = self.values[:, int(last) + 1 :, slot] = UNWRITTEN
        return self._logits(hidden[last])

    def decode(self, bucket: int, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Inputs [slots, 1] ids and cache ids; logits [vocabulary, 1, slots]. Writes every slot."""
        ids, cache_ids = (tensor.long()[:, 0] for tensor in inputs[:2])
        slots = torch.arange(self._slots)
        hidden = self._embed(ids)
        steps = torch.arange(bucket)
        visible = steps[None, :] <= cache_ids[:, None]
        if self._window is not None:
            visible &= cache_ids[:, None] < steps[None, :] + self._window
        for layer in range(self.layers):
            queries, keys, values = self._attention_inputs(layer, hidden, cache_ids)
            self.keys[layer, cache_ids, slots] = keys
            self.values[layer, cache_ids, slots] = values
            attended = torch.cat(
                [
                    self._attend(
                        queries[slot : slot + 1],
                        self.keys[layer, :bucket, slot][visible[slot]],
                        self.values[layer, :bucket, slot][visible[slot]],
                    )
                    for slot in range(self._slots)
                ]
            )
            hidden = self._finish_layer(layer, hidden, attended)
        return self._logits(hidden)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._weights["model.embed_tokens.weight"][ids]

    def _attention_inputs(
        self, layer: int, hidden: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        normed = self._norm(hidden, f"model.layers.{layer}.input_layernorm.weight")
        queries, keys, values = (
            self._project(normed, f"model.layers.{layer}.self_attn.{name}_proj.weight").unflatten(
                -1, (-1, self.head_size)
            )
            for name in "qkv"
        )
        return self._rotate(queries, positions), self._rotate(keys, positions), values

    def _attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        visible: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Queries [n, heads, size] over keys and values [m, kv heads, size]; `visible` is [n, m]."""
        group = self.heads // self.kv_heads
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        scores = torch.einsum("nhd,mhd->hnm", queries.float(), keys.float()) / self.head_size**0.5
        if visible is not None:
            scores = scores.masked_fill(~visible, float("-inf"))
        mixed = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), values.float())
        return mixed.flatten(1).to(self._dtype)

    def _finish_layer(self, layer: int, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        name = f"model.layers.{layer}"
        hidden = hidden + self._project(attended, f"{name}.self_attn.o_proj.weight")
        normed = self._norm(hidden, f"{name}.post_attention_layernorm.weight")
        gate = self._project(normed, f"{name}.mlp.gate_proj.weight")
        raised = self._project(normed, f"{name}.mlp.up_proj.weight")
        inner = gate * gate.sigmoid() * raised
        return hidden + self._project(inner, f"{name}.mlp.down_proj.weight")

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self._norm(hidden, "model.norm.weight")
        head = self._weights.get("lm_head.weight", self._weights["model.embed_tokens.weight"])
        return (normed @ head.T).float().T[:, None, :]

    def _project(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        return hidden @ self._weights[name].T

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._epsilon)
        return (wide * scale).to(self._dtype) * self._weights[name]

    def _rotate(self, states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of states [n, heads, size], the halves of a head being the two coordinates."""
        half = self.head_size // 2
        frequencies = self._theta ** (-torch.arange(half).float() / half)
        angles = positions.float()[:, None, None] * frequencies
        first, second = states.float().split(half, -1)
        sine, cosine = angles.sin(), angles.cos()
        turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
        return turned.to(self._dtype)


def _read(directory: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            weights.update((name, file.get_tensor(name).to(dtype)) for name in file.keys())  # noqa: SIM118
    if not weights:
        raise FileNotFoundError(f"no model.safetensors in {directory}")
    return weights
