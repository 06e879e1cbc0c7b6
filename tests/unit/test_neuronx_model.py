"""Models that the Neuron engine would compute wrongly without an error are refused by their config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve_apps.llm.runners import UnsupportedModelError
from serve_apps.llm.runners.neuronx_model import check_model, kv_heads
from serve_apps.model_package import write_rope_theta

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100000.0,
}
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": None}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0}


def saved(directory: Path, config: dict[str, Any]) -> Path:
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        MISTRAL,
        {**MISTRAL, "sliding_window": 2048},
        {**LLAMA, "rope_scaling": LLAMA3},
        {**LLAMA, "rope_scaling": LLAMA3, "rope_parameters": {**LLAMA3, "rope_theta": 100000.0}},
        {**LLAMA, "head_dim": 64},
        # Old files that say nothing at all mean 10000, and so does the library.
        {key: value for key, value in LLAMA.items() if key != "rope_theta"},
    ],
)
def test_what_the_library_computes_rightly_is_taken(tmp_path: Path, config: dict[str, Any]) -> None:
    check_model(saved(tmp_path, config), max_len=2048)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "qwen3"}, r"'qwen3'; engine transformers-neuronx serves llama and mistral"),
        (
            {"rope_theta": None, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
            r'no rope_theta, so the library would take 10000.*add "rope_theta": 500000\.0',
        ),
        ({"rope_parameters": {"rope_theta": 5.0}}, r"100000\.0 and rope_parameters\.rope_theta 5\.0 differ"),
        (
            {"rope_parameters": {**LLAMA3, "rope_theta": 100000.0}},
            r"asks for 'llama3' scaling but rope_scaling",
        ),
        ({"rope_scaling": {"type": "yarn"}}, r"'yarn' is not known.*default, llama3"),
        ({"model_type": "mistral", "rope_scaling": LLAMA3}, r"'llama3' is not known.*choose one of default"),
        ({"head_dim": 128}, r"head_dim is 128.*hidden_size / num_attention_heads = 64"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        (
            {"model_type": "mistral", "sliding_window": 1024},
            r"1024 tokens.*set max_model_len to 1024 or less",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights cannot be read"),
    ],
)
def test_what_it_would_compute_wrongly_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    config = {key: value for key, value in {**LLAMA, **changes}.items() if value is not None}
    with pytest.raises(UnsupportedModelError, match=words):
        check_model(saved(tmp_path, config), max_len=2048)


def test_a_config_of_transformers_5_is_taken_once_it_speaks_of_4_as_well(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    saved(tmp_path, {**config, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}})
    write_rope_theta(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["rope_theta"], written["rope_scaling"]) == (500000.0, LLAMA3)
    check_model(tmp_path, max_len=2048)


def test_the_converted_model_says_its_rope_theta_in_both_ways(model_dir: Path) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100000.0
    check_model(model_dir, max_len=2048)


def test_heads_are_those_of_the_file(tmp_path: Path) -> None:
    assert kv_heads(saved(tmp_path, LLAMA)) == 3
    config = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert kv_heads(saved(tmp_path, config)) == 9
