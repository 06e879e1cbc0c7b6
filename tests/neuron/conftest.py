from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_apps.model_package import write_rope_theta

SITE = Path(__file__).parent / "site"
VOCABULARY = 97
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": None,  # or `generate` would stop there
    # Large enough for the most likely token to depend on every token before it.
    "initializer_range": 0.4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module `transformers_neuronx`, emulated; the compile cache is a directory of the test."""
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / "compile-cache"))
    yield importlib.import_module("transformers_neuronx")
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_neuronx"]:
        del sys.modules[name]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the library itself raises is raised."""
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")


def save_tiny_model(directory: Path, family: str, **changes: Any) -> Path:
    """A random model in Hugging Face format, as transformers writes it, with the keys of transformers 4."""
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    classes: dict[str, Any] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }
    config_class, model_class = classes[family]
    torch.manual_seed(7)
    extra: dict[str, Any] = {"sliding_window": None} if family == "mistral" else {}
    model_class(config_class(**{**_SHAPE, **extra, **changes})).save_pretrained(directory)
    write_rope_theta(directory)
    return directory


@pytest.fixture(scope="session", params=["llama", "mistral"])
def tiny_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / request.param, request.param)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "llama", "llama")


def edit_config(directory: Path, **changes: Any) -> None:
    """Set keys of `config.json`; None removes one."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def generated(directory: Path, prompt: list[int], tokens: int) -> list[int]:
    """What transformers' own greedy `generate` answers, in float32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()
