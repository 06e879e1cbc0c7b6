"""The hand-written parts of the torch runner against torch's and transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from serve_apps.llm.runners import linear
from serve_apps.llm.runners.linear import OneDnnLinear, WidenedLinear, best_linear
from serve_apps.llm.runners.llama import LlamaNetwork
from serve_apps.llm.runners.network import ModuleNetwork, Network, network
from serve_apps.llm.runners.slot_cache import SlotCache

PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [7], [2, 7, 1, 8, 2]]
SLOTS = [2, 0, 1]
needs_onednn = pytest.mark.skipif(not linear._has_onednn(), reason="torch has no oneDNN on this processor")
SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # so that attention and rotation decide about the logits
}
SCALED_ROTATION = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def model_of(config: Any, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def logits_of_a_prefill_and_two_decodes(network: Network, cache: SlotCache) -> torch.Tensor:
    lengths = [len(prompt) for prompt in PROMPTS]
    positions = torch.cat([torch.arange(length) for length in lengths])
    cache.place_prefill(torch.tensor(SLOTS).repeat_interleave(torch.tensor(lengths)), positions)
    with torch.inference_mode():
        logits = [
            network.prefill(
                torch.tensor([token for prompt in PROMPTS for token in prompt]), positions, lengths
            )
        ]
        by_slot = torch.tensor([length for _, length in sorted(zip(SLOTS, lengths, strict=True))])
        for rows in ([0, 1, 2], [0, 2]):  # the second time with a gap
            at = by_slot[rows] + (len(logits) - 1)
            attended = cache.place_decode(rows, at, longest=int(at.max()) + 1)
            visible = torch.arange(attended) <= at[:, None]
            logits.append(network.decode(torch.tensor([11, 12, 13])[rows], at, visible))
    return torch.cat(logits)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, tie_word_embeddings=True),
        LlamaConfig(**SIZES, tie_word_embeddings=False, head_dim=16, rope_parameters=SCALED_ROTATION),
        MistralConfig(**SIZES, sliding_window=None, head_dim=8),
    ],
    ids=["llama, tied", "llama, scaled rotation", "mistral"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_the_llama_forward_computes_what_the_modules_do(
    config: Any, dtype: torch.dtype, tolerance: float
) -> None:
    said: dict[type[Any], torch.Tensor] = {}
    for kind in (ModuleNetwork, LlamaNetwork):
        cache = SlotCache(slots=3, max_len=96)
        said[kind] = logits_of_a_prefill_and_two_decodes(kind(model_of(config, dtype), cache), cache)
    expected = said[ModuleNetwork].float()
    assert (said[LlamaNetwork].float() - expected).abs().max() < tolerance * expected.std()


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LlamaConfig(**SIZES), LlamaNetwork),
        (LlamaConfig(**SIZES, attention_bias=True), ModuleNetwork),
        (LlamaConfig(**SIZES, hidden_act="gelu"), ModuleNetwork),
        (Qwen2Config(**SIZES), ModuleNetwork),
    ],
    ids=["llama", "biases", "another activation", "another architecture"],
)
def test_what_is_no_plain_llama_is_left_to_transformers(config: Any, kind: type[Any]) -> None:
    chosen = network(model_of(config, torch.float32), SlotCache(slots=1, max_len=96))
    assert type(chosen) is kind


@needs_onednn
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 33])
# oneDNN takes none of the outputs, all of them, and most; sums are short, or lose much if they are rounded.
@pytest.mark.parametrize(("outputs", "columns"), [(5, 48), (48, 48), (101, 48), (5, 2**19), (16, 2**19)])
@torch.inference_mode()
def test_widened_products_equal_those_in_float32_rounded_once(rows: int, outputs: int, columns: int) -> None:
    weight, x = torch.randn(outputs, columns).bfloat16(), torch.randn(rows, columns).bfloat16()
    exact = F.linear(x.double(), weight.double())
    torch.testing.assert_close(WidenedLinear(weight)(x).double(), exact, rtol=2**-7, atol=2**-7)


@torch.inference_mode()
def test_without_mixed_products_torchs_own_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(linear, "lacks_bfloat16", lambda: True)
    monkeypatch.setattr(linear, "_product", refuse)
    linear._has_mixed_product.cache_clear()
    weight, x = torch.randn(48, 96).bfloat16(), torch.randn(8, 96).bfloat16()
    try:
        assert torch.equal(best_linear(weight)(x), F.linear(x, weight))
    finally:
        linear._has_mixed_product.cache_clear()


@needs_onednn
@pytest.mark.parametrize("rows", [1, 8, 33])
@pytest.mark.parametrize("shared", [False, True])
@torch.inference_mode()
def test_onednns_products_equal_torchs_own(rows: int, shared: bool) -> None:
    weight, x = torch.randn(40, 24), torch.randn(rows, 24)
    product = best_linear(weight.clone(), shared=shared)
    assert isinstance(product, OneDnnLinear)
    torch.testing.assert_close(product(x), F.linear(x, weight))


def test_a_shared_weight_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(40, 24)
    kept: Any = best_linear(weight, shared=True)
    assert kept.weight.data_ptr() == weight.data_ptr()
    monkeypatch.setattr(linear, "lacks_bfloat16", lambda: True)
    assert isinstance(best_linear(weight.bfloat16(), shared=True), WidenedLinear)
