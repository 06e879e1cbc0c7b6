"""Memory of a replica on NeuronCores, as transformers-neuronx lays it out: pure arithmetic, in bytes a core.

The library pads what does not divide by the tensor-parallel degree, and it repeats KV heads where there are
fewer than cores. Paths in the comments are of
https://github.com/aws-neuron/transformers-neuronx/tree/1ade6d7/src/transformers_neuronx (2026-11).
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.model_shape import ModelShape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

# Micro-code of a NeuronCore (2026-11):
# https://awsdocs-neuron.readthedocs-hosted.com/en/latest/neuron-runtime/explore/device-memory.html
_MICROCODE_BYTES = 96 * 2**20
# What a program keeps of a layer at a time besides attention and MLP: its input, the normed one, its output.
_HIDDEN_STATES = 3
_LOGIT_BYTES = 4


@dataclass(frozen=True)
class ReplicaMemory:
    """What a replica takes of each of its NeuronCores, bytes.

    `weights` and `kv_cache` are what the library allocates. `workspace` is what programs need besides: an
    estimate, unless the stack file has a measured one. `padding` is the part of weights and cache that holds
    no weight and no token of its own: zeros, and copies of KV heads. `checkpoint` is the whole replica's, on
    disk and while it loads.
    """

    weights: int
    kv_cache: int
    workspace: int
    padding: int
    checkpoint: int

    @property
    def allocated(self) -> int:
        """What is certain."""
        return self.weights + self.kv_cache

    @property
    def total(self) -> int:
        """What a core is asked for in all."""
        return self.allocated + self.workspace


@dataclass(frozen=True)
class EngineSize:
    """What a service asks of a replica: degree, slots, tokens a slot, bytes a number."""

    tensor_parallel: int
    slots: int
    max_model_len: int
    dtype_bytes: int


def replica_memory(
    shape: ModelShape, size: EngineSize, *, workspace_bytes: int | None = None
) -> ReplicaMemory:
    """Memory of one replica, a core; `workspace_bytes` is a measured one."""
    heads, kv_heads = padded_heads(shape.heads, shape.kv_heads, size.tensor_parallel)
    weights = _weights(shape, heads, kv_heads, size)
    kv_cache = _kv_cache(shape, kv_heads, size)
    # The embeddings stay in the host's memory (llama/model.py, materialize_embeddings).
    bare = (shape.parameters - _norms(shape)) // size.tensor_parallel + _norms(shape)
    if not shape.tied_embeddings:
        bare -= shape.vocabulary * shape.hidden_size // size.tensor_parallel
    needed = bare * size.dtype_bytes + _kv_cache(shape, shape.kv_heads, size)
    return ReplicaMemory(
        weights=weights,
        kv_cache=kv_cache,
        workspace=estimated_workspace(shape, size) if workspace_bytes is None else workspace_bytes,
        padding=max(0, weights + kv_cache - needed),
        checkpoint=shape.parameters * size.dtype_bytes,
    )


def padded_heads(heads: int, kv_heads: int, degree: int) -> tuple[int, int]:
    """Query and KV heads, over all cores, that the library makes of a model's at a degree.

    (utils.py, get_qkv_padding; decoder.py, check_gqa_fallback and init_caches.)
    """
    padded = _round_up(heads, degree)
    if heads == kv_heads or kv_heads % degree == 0:
        return padded, _round_up(kv_heads, degree)
    copies = heads // kv_heads
    extra = padded - heads
    if kv_heads < degree and degree % kv_heads == 0 and (extra == 0 or extra % kv_heads == 0):
        copies = degree // kv_heads
    elif padded * kv_heads == heads * degree:
        # Every core has the query heads of exactly one KV head.
        copies = 1
    padded_kv = max(kv_heads * copies, degree)
    if padded_kv == heads:
        padded_kv = padded
    return padded, _round_up(padded_kv, degree)


def estimated_workspace(shape: ModelShape, size: EngineSize) -> int:
    """An estimate of what programs need on a core besides weights and KV cache, bytes.

    AWS documents a fixed amount for micro-code, and that the scratchpad of inference is usually determined by
    the size of the hidden states. So: those of one layer for the longest prompt, and the logits of all slots.
    Instructions and DMA rings are not in it; AWS documents no size for them.
    """
    heads, kv_heads = padded_heads(shape.heads, shape.kv_heads, size.tensor_parallel)
    attention = (heads + 2 * kv_heads) * shape.head_size // size.tensor_parallel
    mlp = 2 * _share(shape.intermediate_size, size.tensor_parallel)
    prefill = size.max_model_len * (_HIDDEN_STATES * shape.hidden_size + attention + mlp) * size.dtype_bytes
    logits = size.slots * shape.vocabulary * _LOGIT_BYTES
    return _MICROCODE_BYTES + prefill + logits


def _weights(shape: ModelShape, heads: int, kv_heads: int, size: EngineSize) -> int:
    degree = size.tensor_parallel
    attention = 2 * shape.hidden_size * shape.head_size * (heads + kv_heads) // degree
    mlp = 3 * shape.hidden_size * _share(shape.intermediate_size, degree)
    # The vocabulary is padded to the degree (decoder.py, add_lm_head); norms are on every core.
    lm_head = shape.hidden_size * _share(shape.vocabulary, degree)
    return (shape.layers * (attention + mlp) + lm_head + _norms(shape)) * size.dtype_bytes


def _norms(shape: ModelShape) -> int:
    return shape.hidden_size * (2 * shape.layers + 1)


def _kv_cache(shape: ModelShape, kv_heads: int, size: EngineSize) -> int:
    tokens = size.slots * size.max_model_len
    return 2 * shape.layers * tokens * kv_heads * shape.head_size * size.dtype_bytes // size.tensor_parallel


def _share(size: int, degree: int) -> int:
    return -(-size // degree)


def _round_up(count: int, degree: int) -> int:
    return -(-count // degree) * degree
