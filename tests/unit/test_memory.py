from __future__ import annotations

from dataclasses import replace

import pytest

from infra.model_shape import ModelShape
from workloads.memory import EngineSize, padded_heads, replica_memory
from workloads.model_shapes import KNOWN_SHAPES

LLAMA = KNOWN_SHAPES["meta-llama/Meta-Llama-3-8B"]
SIZE = EngineSize(tensor_parallel=2, slots=8, max_model_len=2048, dtype_bytes=2)
DEGREES = (1, 2, 4, 8, 24, 32)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "degree", "expected"),
    [
        (32, 8, 1, (32, 8)),
        (32, 8, 2, (32, 8)),
        (32, 8, 8, (32, 8)),
        # KV heads are repeated until every core has one.
        (32, 8, 24, (48, 24)),
        (32, 8, 32, (32, 32)),
        (32, 4, 8, (32, 8)),
        # Without groups of query heads, all of them are padded.
        (40, 40, 24, (48, 48)),
        (40, 40, 8, (40, 40)),
        # A degree that the KV heads do not divide makes one KV head of every query head.
        (9, 3, 2, (10, 10)),
        # A core whose query heads are exactly those of one KV head needs no copy of it.
        (72, 24, 32, (96, 32)),
    ],
)
def test_heads_are_padded_as_the_library_does(
    heads: int, kv_heads: int, degree: int, expected: tuple[int, int]
) -> None:
    assert padded_heads(heads, kv_heads, degree) == expected


@pytest.mark.parametrize("shape", list(dict.fromkeys(KNOWN_SHAPES.values())), ids=lambda shape: shape.family)
@pytest.mark.parametrize("degree", DEGREES)
def test_padded_heads_can_be_shared_out_and_hold_the_models_own(shape: ModelShape, degree: int) -> None:
    heads, kv_heads = padded_heads(shape.heads, shape.kv_heads, degree)
    assert heads % degree == kv_heads % degree == 0
    assert heads >= shape.heads
    assert shape.kv_heads <= kv_heads <= heads


def test_one_core_holds_all_weights_but_the_embeddings_and_pads_nothing() -> None:
    memory = replica_memory(LLAMA, replace(SIZE, tensor_parallel=1))
    assert memory.weights == (LLAMA.parameters - LLAMA.vocabulary * LLAMA.hidden_size) * 2
    assert memory.padding == 0
    assert memory.checkpoint == LLAMA.parameters * 2


def test_the_cache_has_a_key_and_a_value_of_every_layer_head_and_token() -> None:
    memory = replica_memory(LLAMA, SIZE)
    assert memory.kv_cache == 2 * 32 * (8 * 2048) * (8 // 2) * 128 * 2


def test_twice_the_cores_hold_half_of_it_each_until_heads_are_repeated() -> None:
    memory = {degree: replica_memory(LLAMA, replace(SIZE, tensor_parallel=degree)) for degree in DEGREES}
    assert memory[8].kv_cache == memory[1].kv_cache // 8
    assert memory[24].kv_cache == memory[8].kv_cache
    assert memory[8].padding == 0
    # 16 of 24 KV heads are copies: two thirds of the cache, and more of the weights.
    assert memory[24].padding > memory[24].kv_cache * 2 // 3


def test_padding_is_what_is_not_needed() -> None:
    memory = replica_memory(LLAMA, replace(SIZE, tensor_parallel=24))
    unpadded = replica_memory(LLAMA, replace(SIZE, tensor_parallel=1))
    needed = (unpadded.weights + unpadded.kv_cache) / 24
    assert memory.allocated - memory.padding == pytest.approx(needed, rel=0.001)


def test_a_measured_workspace_takes_the_place_of_the_estimate() -> None:
    assert replica_memory(LLAMA, SIZE, workspace_bytes=7).workspace == 7
    estimated = replica_memory(LLAMA, SIZE).workspace
    assert estimated > 96 * 2**20
    assert replica_memory(LLAMA, replace(SIZE, max_model_len=8192)).workspace > estimated
