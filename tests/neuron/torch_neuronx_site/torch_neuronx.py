"""A stand-in for torch-neuronx: the published signatures, and the shapes that a NEFF would insist on.

`trace` and `DataParallel` are as in api-torch-neuronx-trace.rst and api-torch-neuronx-data-parallel.rst of
https://github.com/aws-neuron/aws-neuron-sdk (frameworks/torch/torch-neuronx/api-reference-guide/inference,
looked up 2026-11).
"""

from __future__ import annotations

from typing import Any

import torch

TRACED: list[dict[str, Any]] = []


class _Neff(torch.nn.Module):
    """What is compiled: refuses other shapes and types, as the runtime does."""

    def __init__(self, graph: Any, example: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.graph = graph
        self.shapes: list[list[int]] = [list(tensor.shape) for tensor in example]
        self.dtypes: list[int] = [_number(tensor.dtype) for tensor in example]


class _Neff1(_Neff):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        if list(a.shape) != self.shapes[0]:
            raise RuntimeError("Incorrect tensor shape at input tensor #0")
        return self.graph(a)


class _Neff2(_Neff):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if list(a.shape) != self.shapes[0] or list(b.shape) != self.shapes[1]:
            raise RuntimeError("Incorrect tensor shape at an input tensor")
        return self.graph(a, b)


class _Neff3(_Neff):
    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        if (
            list(a.shape) != self.shapes[0]
            or list(b.shape) != self.shapes[1]
            or list(c.shape) != self.shapes[2]
        ):
            raise RuntimeError("Incorrect tensor shape at an input tensor")
        return self.graph(a, b, c)


def trace(
    func: Any,
    example_inputs: Any,
    *_: Any,
    input_output_aliases: dict[Any, Any] = {},  # noqa: B006 - as published
    compiler_workdir: str | None = None,
    compiler_args: str | list[str] | None = None,
    partitioner_config: Any = None,
    inline_weights_to_neff: bool = True,
    cpu_backend: bool = False,
) -> torch.jit.ScriptModule:
    assert not _, "keywords given as positions are read with a warning, and later not at all"
    assert isinstance(example_inputs, (torch.Tensor, tuple))
    if cpu_backend:
        assert "--target" in " ".join(
            [compiler_args] if isinstance(compiler_args, str) else compiler_args or []
        )
    example = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    assert all(tensor.device.type == "cpu" for tensor in example), "it takes CPU tensors"
    TRACED.append({"shapes": [tuple(t.shape) for t in example], "compiler_args": compiler_args})
    graph = torch.jit.trace(func, example, check_trace=False)
    return torch.jit.script({1: _Neff1, 2: _Neff2, 3: _Neff3}[len(example)](graph, example))


class DataParallel(torch.nn.Module):
    def __init__(
        self,
        model: torch.jit.ScriptModule,
        device_ids: list[int | str] | None = None,
        dim: int = 0,
        set_dynamic_batching: bool = True,
    ) -> None:
        super().__init__()
        assert isinstance(model, torch.jit.ScriptModule)
        self.model, self.device_ids, self.dim = model, device_ids or [0], dim
        self.dynamic = set_dynamic_batching

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        parts = [tensor.chunk(len(self.device_ids), self.dim) for tensor in inputs]
        return torch.cat([self.model(*part) for part in zip(*parts, strict=True)], self.dim)


def _number(dtype: torch.dtype) -> int:
    return {torch.float32: 6, torch.int64: 4, torch.bfloat16: 15}[dtype]
