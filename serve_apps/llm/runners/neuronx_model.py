"""Which models transformers-neuronx computes correctly, asked before anything is loaded.

The library reads a few keys of `config.json` and ignores the others, so a model that needs one of the
others would answer fluently and wrongly. Everything here is refused for that reason; the files named are
those of transformers-neuronx 0.13 (https://github.com/aws-neuron/transformers-neuronx, commit 1ade6d7,
looked at 2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from serve_apps.llm.runners import UnsupportedModelError

# Continuous batching exists for these two
# (https://github.com/aws-neuron/aws-neuron-sdk/blob/81ce03ae261e12925e53437a0f690478e6366155/archive/transformers-neuronx/transformers-neuronx-developer-guide-for-continuous-batching.rst,
# looked at 2026-11).
FAMILIES = ("llama", "mistral")
_LLAMA_ROPE_TYPES = {"default", "llama3"}


def check_model(model_dir: Path, *, max_len: int) -> None:
    """Raise `UnsupportedModelError` with the first reason why the model would be computed wrongly."""
    config: dict[str, Any] = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    for reason in _reasons(config, max_len):
        raise UnsupportedModelError(f"{model_dir / 'config.json'}: {reason}")


def kv_heads(model_dir: Path) -> int:
    """Key and value heads of the model, before any are replicated."""
    config: dict[str, Any] = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _reasons(config: Mapping[str, Any], max_len: int) -> Iterator[str]:
    family = config.get("model_type")
    if family not in FAMILIES:
        yield (
            f"model_type is {family!r}; engine transformers-neuronx serves {' and '.join(FAMILIES)}, "
            "choose a model of these families"
        )
    yield from _rope(config)
    yield from _attention(config, max_len)
    if config.get("quantization_config"):
        yield "quantization_config: quantised weights cannot be read; name the unquantised model"


def _rope(config: Mapping[str, Any]) -> Iterator[str]:
    """llama/config.py and mistral/config.py read `rope_theta`, and 10000 where it is missing.

    transformers 5 writes `rope_parameters` instead, which nothing there knows.
    """
    parameters = cast("Mapping[str, Any]", config.get("rope_parameters") or {})
    theta, stated = config.get("rope_theta"), parameters.get("rope_theta")
    if theta is None and parameters:
        yield (
            "has rope_parameters but no rope_theta, so the library would take 10000 for it; "
            f'add "rope_theta": {stated} to the file, or save the model with transformers 4'
        )
    if theta is not None and stated is not None and theta != stated:
        yield f"rope_theta {theta} and rope_parameters.rope_theta {stated} differ; correct one of them"
    scaling = cast("Mapping[str, Any]", config.get("rope_scaling") or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    wanted = parameters.get("rope_type", "default") if parameters else kind
    if wanted != kind:
        yield (
            f"rope_parameters asks for {wanted!r} scaling but rope_scaling, which the library reads, says "
            f"{kind!r}; save the model with transformers 4"
        )
    known = _LLAMA_ROPE_TYPES if config.get("model_type") == "llama" else {"default"}
    if kind not in known:
        yield f"rope_scaling {kind!r} is not known for this family; choose one of {', '.join(sorted(known))}"


def _attention(config: Mapping[str, Any], max_len: int) -> Iterator[str]:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head_dim = config.get("head_dim")
    if head_dim is not None and head_dim * heads != hidden:
        # llama/config.py: attention_head_size = hidden_size // num_attention_heads
        yield (
            f"head_dim is {head_dim}, but the library takes hidden_size / num_attention_heads = "
            f"{hidden / heads:g} for it; choose another model"
        )
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            yield f"{key} is true, and the library leaves biases out; choose another model"
    window = config.get("sliding_window")
    if window is not None and config.get("model_type") == "mistral" and max_len > window:
        yield (
            f"attends to a sliding window of {window} tokens, which this engine does not serve beyond its "
            f"length; set max_model_len to {window} or less (it is {max_len})"
        )
