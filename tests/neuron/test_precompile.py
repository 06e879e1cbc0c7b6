"""Compiling ahead of the replicas, on the emulator: the same graphs, no device, and words for what fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra import code_archive
from serve_apps.llm.args import LlmArgs
from serve_apps.llm.factory import compile_graphs
from serve_apps.llm.precompile import FAILED, OUT_OF_TIME, REFUSED, main
from serve_apps.llm.runners.neuronx import NeuronxRunner
from serve_apps.llm.runners.neuronx_cache import CompileCache
from tests.neuron.conftest import SITE, edit_config, save_tiny_model
from tests.neuron.s3 import s3_server
from tests.neuron.test_neuronx_runner import loaded
from workloads import precompile_script

SHAPES: dict[str, Any] = {"slots": 4, "max_model_len": 256, "tensor_parallel": 2, "dtype": "float32"}


def arguments(directory: Path, model: Path, **changes: Any) -> Path:
    """A file with what `build_app` gets."""
    given = {
        "model": str(model),
        "served_name": "tiny",
        "engine": "transformers-neuronx",
        "device": "neuron",
        **SHAPES,
        **changes,
    }
    path = directory / "args.json"
    path.write_text(json.dumps(LlmArgs.model_validate(given).model_dump(mode="json")))
    return path


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNX_EMULATOR_DEVICE", "0")


@pytest.mark.parametrize("sampling", ["host", "device"])
def test_a_replica_finds_every_graph(
    emulator: Any,
    tiny_model: Path,
    tmp_path: Path,
    sampling: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TNX_EMULATOR_DEVICE", "0")
    assert main([str(arguments(tmp_path, tiny_model, sampling=sampling))]) == 0
    compiled = CompileCache().graphs()
    assert compiled
    monkeypatch.setenv("TNX_EMULATOR_DEVICE", "1")
    with caplog.at_level(logging.INFO):
        caplog.clear()
        loaded(tiny_model, sampling=sampling)
    assert ": hit; 2 prefill and 1 decode graphs" in caplog.text
    assert CompileCache().graphs() == compiled


@pytest.mark.parametrize(
    "change", [{"slots": 2}, {"max_model_len": 512}, {"tensor_parallel": 1}, {"sampling": "device"}]
)
def test_another_shape_is_other_graphs(
    emulator: Any, tiny_llama: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert main([str(arguments(tmp_path, tiny_llama))]) == 0
    before = CompileCache().graphs() or set()
    assert main([str(arguments(tmp_path, tiny_llama, **change))]) == 0
    assert before < (CompileCache().graphs() or set())


def test_without_a_device_nothing_else_runs(emulator: Any, tiny_llama: Path, no_device: None) -> None:
    runner = NeuronxRunner(tiny_llama, slots=4, max_len=256, tensor_parallel=2)
    runner.compile()
    with pytest.raises(RuntimeError, match="no Neuron device"):
        runner.load()


def test_what_was_only_compiled_does_not_compute(emulator: Any, tiny_llama: Path) -> None:
    runner: Any = NeuronxRunner(tiny_llama, slots=4, max_len=256, tensor_parallel=2)
    model = runner._from_pretrained(runner._library())
    model.cpu_compile()
    with pytest.raises(AssertionError, match="to_neuron was not called"):
        model.run_graph("decode", (None,) * 6)


def test_a_model_that_the_engine_refuses_is_refused_here_with_the_same_words(
    emulator: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    edit_config(model, attention_bias=True)
    assert main([str(arguments(tmp_path, model))]) == REFUSED
    assert "attention_bias is true" in capsys.readouterr().err.splitlines()[-1]


def test_a_model_that_cannot_be_had_may_come_with_the_next_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(arguments(tmp_path, tmp_path / "nowhere"))]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "no such directory" in line
    assert "MODULE_" not in line


def test_another_device_has_nothing_to_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = arguments(tmp_path, tmp_path, engine="torch", device="cpu")
    assert main([str(path)]) == REFUSED
    assert "device 'cpu' compiles no graphs" in capsys.readouterr().err


def test_a_compiler_that_fails_says_how_to_try_again(
    emulator: Any,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: str) -> bytes:
        raise OSError("neuronx-cc: no space left on device")

    monkeypatch.setattr("transformers_neuronx.model.compile_graph", fail)
    assert main([str(arguments(tmp_path, tiny_llama))]) == FAILED
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no space left on device" in last
    assert "delete its MODULE_ folder" in last


def test_a_cache_that_stays_empty_is_a_failure(
    emulator: Any,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("transformers_neuronx.model.compile_graph", lambda _: b"kept nowhere")
    assert main([str(arguments(tmp_path, tiny_llama))]) == FAILED
    assert "holds no graphs; may this pod write to NEURON_COMPILE_CACHE_URL?" in capsys.readouterr().err


def test_a_compilation_that_hangs_ends_at_its_deadline(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from serve_apps.llm import precompile\n"
        "precompile.compile_graphs = lambda args: time.sleep(600)\n"
        f"sys.exit(precompile.main([{str(arguments(tmp_path, tmp_path))!r}, '--timeout-s', '1']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == OUT_OF_TIME
    assert "error: not compiled within 1 s" in ended.stderr.splitlines()[-1]
    assert "raise startTimeoutSeconds" in ended.stderr


def test_the_jobs_script_takes_the_code_from_the_bucket_and_fills_the_cache_there(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """The pod's command as it is, from an empty directory: code from S3, graphs to S3."""
    archive = code_archive.build("llm", directory=tmp_path / "archives")
    settings = tmp_path / "settings"
    settings.mkdir()
    arguments(settings, tiny_llama)
    (settings / "job.json").write_text(
        json.dumps({"code_url": f"s3://stack/{archive.key}", "timeout_s": 300})
    )
    script = settings / "precompile_script.py"
    script.write_text(Path(precompile_script.__file__).read_text())
    with s3_server("stack") as client:
        client.upload_file(str(archive.path), "stack", archive.key)
        environment = {
            **os.environ,
            "PYTHONPATH": str(SITE),
            "NEURON_COMPILE_CACHE_URL": "s3://stack/neuron-compile-cache",
            "TNX_EMULATOR_DEVICE": "0",
        }
        ended = subprocess.run(
            [sys.executable, str(script)],
            cwd=settings,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ended.returncode == 0, ended.stderr
        graphs = client.list_objects_v2(Bucket="stack", Prefix="neuron-compile-cache/")["Contents"]
        assert len(graphs) == 3
        assert ended.stdout.startswith("precompiled in ")

        (settings / "job.json").write_text(json.dumps({"code_url": "s3://stack/no.zip", "timeout_s": 300}))
        ended = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=240
        )
        assert ended.returncode == 1
        assert "error: the code at s3://stack/no.zip cannot be fetched" in ended.stderr


def test_the_graphs_are_those_of_the_engines_own_arguments(
    emulator: Any, tiny_llama: Path, tmp_path: Path, no_device: None
) -> None:
    """Through the factory, as the engine is built: what the arguments leave out has the engine's defaults."""
    args = LlmArgs.model_validate(json.loads(arguments(tmp_path, tiny_llama).read_text()))
    compile_graphs(args)
    assert len(CompileCache().graphs() or ()) == 3
