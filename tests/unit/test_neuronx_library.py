"""The library that is not here, or is its stub; and the cores of a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.llm.runners.neuronx_library import load_library
from serve_apps.neuron_library import NeuronCoresError, NeuronLibraryError, check_visible_cores

# What the packages of the public index raise (transformers-neuronx 0.1, torch-neuronx 1.0).
STUB = 'raise ImportError("WRONG PACKAGE. Please install the package from the Neuron Repository")\n'


@pytest.fixture(autouse=True)
def forget_the_library() -> Iterator[None]:
    yield
    for name in ("transformers_neuronx", "torch_neuronx"):
        sys.modules.pop(name, None)


def test_a_missing_library_is_reported_with_the_place_where_it_is() -> None:
    with pytest.raises(NeuronLibraryError, match=r"cannot be imported .*pip\.repos\.neuron\.amazonaws\.com"):
        load_library()


@pytest.mark.parametrize("stub", ["transformers_neuronx", "torch_neuronx"])
def test_a_stub_of_the_public_index_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: str
) -> None:
    (tmp_path / "transformers_neuronx.py").write_text("import torch_neuronx\n")
    (tmp_path / f"{stub}.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NeuronLibraryError, match=r"is the stub of the public index.*pip\.repos\.neuron"):
        load_library()


def test_another_version_is_loaded_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "transformers_neuronx.py").write_text('__version__ = "0.12.313"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_library().__version__ == "0.12.313"
    assert "transformers-neuronx is 0.12.313" in caplog.text


@pytest.mark.parametrize(("visible", "cores"), [(None, 2), ("0,1", 2), ("4-7", 4), ("0, 2-3", 3)])
def test_the_cores_of_the_process_are_counted(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, cores: int
) -> None:
    monkeypatch.delenv("NEURON_RT_VISIBLE_CORES", raising=False)
    if visible is not None:
        monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", visible)
        with pytest.raises(
            NeuronCoresError, match=f"{cores} NeuronCores, but tensor_parallel is {cores + 1}"
        ):
            check_visible_cores(cores + 1, "tensor_parallel")
    check_visible_cores(cores, "tensor_parallel")
