"""The configuration objects, by the library's names."""

from __future__ import annotations

import enum
from typing import Any


class Layout(enum.Enum):
    HSB = "HSB"
    BSH = "BSH"
    SBH = "SBH"


class GQA(enum.Enum):
    SHARD_OVER_HEADS = "shard-over-heads"
    SHARD_OVER_BATCH = "shard-over-batch"
    REPLICATED_HEADS = "replicated-heads"
    ALL_GATHER_HEADS = "all-gather-heads"


class ContinuousBatchingConfig:
    def __init__(self, **kwargs: Any) -> None:
        self.batch_size_for_shared_caches: int = kwargs.pop("batch_size_for_shared_caches")
        assert not kwargs, f"keywords that ContinuousBatchingConfig does not know: {list(kwargs)}"


class GenerationConfig:
    def __init__(
        self,
        *,
        max_length: int | None = None,
        do_sample: bool = False,
        top_k: Any = 50,
        top_p: Any = 1.0,
        top_p_min_tokens: Any = 1,
        global_top_k: int | None = None,
        eos_token_id: Any = None,
        temperature: Any = 1.0,
        dynamic: bool = False,
        deterministic: bool = False,
        per_batch_line: bool = False,
    ) -> None:
        self.max_length = max_length
        self.do_sample = do_sample
        self.top_k = top_k
        self.top_p = _floats(top_p)
        self.top_p_min_tokens = top_p_min_tokens
        self.global_top_k = global_top_k
        self.eos_token_id = eos_token_id
        self.temperature = _floats(temperature)
        self.dynamic = dynamic
        self.deterministic = deterministic
        self.per_batch_line = per_batch_line


def _floats(value: Any) -> Any:
    return [float(item) for item in value] if isinstance(value, list) else float(value)


class NeuronConfig:
    def __init__(
        self,
        *,
        sparse_attn: Any = None,
        quant: Any = None,
        kv_cache_quant: Any = None,
        continuous_batching: ContinuousBatchingConfig | None = None,
        attention_layout: Layout = Layout.HSB,
        collectives_layout: Layout = Layout.HSB,
        cache_layout: Layout = Layout.SBH,
        padding_side: str = "left",
        group_query_attention: GQA | None = None,
        sequence_parallel_norm: bool = False,
        sequence_parallel_norm_threshold: int = 2048,
        bf16_rms_norm: bool = False,
        on_device_embedding: bool = False,
        on_device_generation: GenerationConfig | None = None,
        all_reduce_dtype: str | None = None,
        cast_logits_dtype: str = "float32",
        fuse_qkv: bool = False,
        qkv_tiling: bool = False,
        weight_tiling: bool = False,
        mlp_in_weight_tiling_permute_order: Any = [1, 2, 0, 3],  # noqa: B006 - as published
        mlp_out_weight_tiling_permute_order: Any = [1, 2, 0, 3],  # noqa: B006 - as published
        log_softmax_scores: bool = False,
        shard_over_sequence: bool = False,
        output_all_logits: bool = False,
        attn_output_transposed: bool = False,
        fused_rmsnorm_qkv: bool = False,
        fused_rmsnorm_mlp: bool = False,
        mlp_out_weight_transpose: bool = False,
        fuse_mlp: bool = False,
        is_eagle_target: bool = False,
        is_eagle_draft: bool = False,
        has_pre_attention_norm: bool = True,
        compilation_worker_count: int | None = None,
        duplicate_q_weight_sos: bool = False,
        **kwargs: Any,
    ) -> None:
        given = dict(locals())
        assert not kwargs, f"keywords that NeuronConfig does not know: {list(kwargs)}"
        for name in ("self", "kwargs"):
            given.pop(name)
        self.__dict__.update(given)
        if continuous_batching:
            self.padding_side = "right"
