from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serve_apps.artifacts import ArtifactStore
from serve_apps.neuron_library import NeuronCoresError, NeuronLibraryError
from serve_apps.tracing import ShapeNotCompiledError, Tracer, bucket_for, buckets, signature

SITE = Path(__file__).parents[1] / "neuron" / "torch_neuronx_site"


class Scaled(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.factor * left + right


def example(rows: int, columns: int = 4) -> tuple[Tensor, ...]:
    return torch.ones(rows, columns), torch.ones(rows, columns)


@pytest.fixture
def neuron(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.delenv("NEURON_RT_VISIBLE_CORES", raising=False)
    sys.modules.pop("torch_neuronx", None)
    import torch_neuronx

    yield torch_neuronx
    sys.modules.pop("torch_neuronx", None)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "traced")


def test_a_trace_computes_what_the_module_does() -> None:
    compiled = Tracer("cpu").compile("scaled", Scaled(), [example(1), example(3)])
    inputs = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(compiled(*inputs), Scaled()(*inputs))


@pytest.mark.parametrize(
    "inputs",
    [example(2), example(1, 5), (torch.ones(1, 4), torch.ones(1, 4).double()), (torch.ones(1, 4),)],
    ids=["rows", "columns", "type", "count"],
)
def test_what_was_not_compiled_is_refused_with_what_was(inputs: tuple[Tensor, ...]) -> None:
    compiled = Tracer("cpu").compile("scaled", Scaled(), [example(1), example(3)])
    with pytest.raises(ShapeNotCompiledError, match=r"compiled are \[1, 4\] float32.*; \[3, 4\] float32"):
        compiled(*inputs)


def test_buckets_end_with_the_largest() -> None:
    assert buckets(16) == [1, 4, 16]
    assert buckets(20, smallest=8) == [8, 20]
    assert buckets(4, smallest=32) == [4]
    assert [bucket_for(size, [1, 4, 16]) for size in (1, 2, 16)] == [1, 4, 16]
    with pytest.raises(ShapeNotCompiledError, match="17 is larger than what is compiled: 1, 4, 16"):
        bucket_for(17, [1, 4, 16])


def test_neuron_gets_the_module_the_shapes_and_the_compilers_arguments(neuron: Any) -> None:
    tracer = Tracer("neuron")
    compiled = tracer.compile("scaled", Scaled(), [example(3)], compiler_args=["--model-type=unet-inference"])
    assert neuron.TRACED == [{"shapes": [(3, 4), (3, 4)], "compiler_args": ["--model-type=unet-inference"]}]
    assert torch.equal(compiled(*example(3)), Scaled()(*example(3)))
    with pytest.raises(ShapeNotCompiledError):
        compiled(*example(2))


def test_the_stand_in_itself_refuses_another_shape(neuron: Any) -> None:
    with pytest.raises(Exception, match="Incorrect tensor shape"):
        neuron.trace(Scaled(), example(3))(*example(2))


def test_rows_are_spread_over_the_cores_where_they_divide(neuron: Any, store: ArtifactStore) -> None:
    compiled = Tracer("neuron", store, cores=2).compile("scaled", Scaled(), [example(1), example(4)])
    assert [entry["shapes"][0] for entry in neuron.TRACED] == [(1, 4), (2, 4)]
    inputs = torch.randn(4, 4), torch.randn(4, 4)
    assert torch.equal(compiled(*inputs), Scaled()(*inputs))
    assert compiled.signatures == [signature(example(1)), signature(example(4))]


def test_a_compiled_module_is_loaded_and_not_compiled_again(neuron: Any, store: ArtifactStore) -> None:
    for _ in range(2):
        compiled = Tracer("neuron", store).compile("scaled", Scaled(), [example(3)])
        assert torch.equal(compiled(*example(3)), Scaled()(*example(3)))
    assert len(neuron.TRACED) == 1


def test_weights_shapes_and_compiler_arguments_are_part_of_the_key(neuron: Any, store: ArtifactStore) -> None:
    def compile_it(module: nn.Module, rows: int, *arguments: str) -> Any:
        return Tracer("neuron", store).compile("scaled", module, [example(rows)], compiler_args=arguments)

    compile_it(Scaled(), 3)
    compile_it(Scaled(), 2)
    compile_it(Scaled(), 3, "-O1")
    assert torch.equal(compile_it(Scaled(5.0), 3)(*example(3)), Scaled(5.0)(*example(3)))
    assert len(neuron.TRACED) == 4


def test_a_compilation_that_fails_leaves_nothing(neuron: Any, store: ArtifactStore, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            raise RuntimeError("the compiler crashed")

    with pytest.raises(RuntimeError, match="the compiler crashed"):
        Tracer("neuron", store).compile("broken", Broken(), [example(1)])
    assert not list((tmp_path / "traced").glob("*.pt"))


def test_without_the_library_the_error_says_where_it_is() -> None:
    with pytest.raises(NeuronLibraryError, match=r"torch_neuronx cannot be imported.*neuron\.Dockerfile"):
        Tracer("neuron")


def test_the_cores_must_be_those_of_the_process(neuron: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "0-3")
    with pytest.raises(NeuronCoresError, match="4 NeuronCores, but neuron_cores is 2"):
        Tracer("neuron", cores=2)
