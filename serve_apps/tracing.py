"""Torch modules compiled for fixed shapes, the same way on every device.

A NeuronCore runs what was compiled for exactly its input shapes, and nothing else. So that no other machine
hides a shape that would be missing there, CPUs and GPUs run a trace behind the same check, never the module
itself. The interface of `torch_neuronx` is that of
https://awsdocs-neuron.readthedocs-hosted.com/en/latest/frameworks/torch/torch-neuronx/api-reference-guide/inference/api-torch-neuronx-trace.html
and .../api-torch-neuronx-data-parallel.html (looked up 2026-11).
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from serve_apps.artifacts import ArtifactStore
from serve_apps.neuron_library import check_visible_cores, import_library

logger = logging.getLogger(__name__)

Device = Literal["cpu", "cuda", "neuron"]
# Shape and type of every input.
Signature = tuple[tuple[tuple[int, ...], torch.dtype], ...]

_KEY_CHARS = 32
_SHOWN_SIGNATURES = 16
# What a compiled module depends on besides itself.
_PACKAGES = ("torch", "torch-neuronx", "neuronx-cc", "transformers", "diffusers")


class ShapeNotCompiledError(ValueError):
    """The inputs have shapes or types that nothing was compiled for; the message lists those there are."""


class CompiledModule:
    """A module at a fixed set of shapes, for one thread. Takes and returns tensors on the CPU."""

    def __init__(self, name: str, graphs: Mapping[Signature, Any], device: Device) -> None:
        self.name = name
        self._graphs = dict(graphs)
        self._device = device

    @property
    def signatures(self) -> list[Signature]:
        """What it was compiled for."""
        return list(self._graphs)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Any:
        """The output for these inputs. Raises `ShapeNotCompiledError`."""
        graph = self._graphs.get(signature(inputs))
        if graph is None:
            raise ShapeNotCompiledError(
                f"{self.name} is not compiled for {_shown(signature(inputs))}; compiled are "
                f"{'; '.join(map(_shown, self.signatures[:_SHOWN_SIGNATURES]))}"
            )
        if self._device != "cuda":
            return graph(*inputs)
        return graph(*(tensor.to("cuda") for tensor in inputs)).cpu()


class Tracer:
    """Compiles modules for one device.

    On Neuron a module whose first dimension `cores` divides is compiled for its share of the rows and runs on
    all cores of the process at once (`torch_neuronx.DataParallel`), any other on one core. Compiled modules
    are kept in `artifacts`: compiling takes minutes, loading seconds. Elsewhere a trace takes no longer than
    loading one, so none is kept.
    """

    def __init__(self, device: Device, artifacts: ArtifactStore | None = None, *, cores: int = 1) -> None:
        """Raises `NeuronLibraryError` or `NeuronCoresError` where the process cannot use NeuronCores."""
        self._device: Device = device
        self._artifacts = artifacts if device == "neuron" else None
        self._cores = cores
        if device == "neuron":
            check_visible_cores(cores, "neuron_cores")
            self._neuron = import_library("torch_neuronx")

    def compile(
        self,
        name: str,
        module: nn.Module,
        examples: Iterable[tuple[Tensor, ...]],
        *,
        compiler_args: Sequence[str] = (),
    ) -> CompiledModule:
        """`module`, which must return one tensor, for the shapes of every one of `examples`.

        `compiler_args` are neuronx-cc's.
        """
        module = module.eval().requires_grad_(False)
        if self._device == "cuda":
            module = module.to("cuda")
        began, found, graphs = time.monotonic(), 0, dict[Signature, Any]()
        # Weights take the longest to hash, and are the same for all shapes.
        identity = _identity(name, module, compiler_args) if self._device == "neuron" else ""
        for example in examples:
            if self._device == "neuron":
                graph, was_there = self._neuron_graph(module, example, identity, compiler_args)
                found += was_there
            else:
                inputs = tuple(tensor.to(self._device) for tensor in example)
                with torch.inference_mode():
                    graph = torch.jit.trace(module, inputs, check_trace=False)
            graphs[signature(example)] = graph
        logger.info(
            "%s: %d shapes in %.1f s, %d of them compiled before",
            *(name, len(graphs), time.monotonic() - began, found),
        )
        return CompiledModule(name, graphs, self._device)

    def _neuron_graph(
        self, module: nn.Module, example: tuple[Tensor, ...], identity: str, compiler_args: Sequence[str]
    ) -> tuple[Any, bool]:
        spread = self._cores > 1 and example[0].shape[0] % self._cores == 0
        share = tuple(tensor.chunk(self._cores)[0].contiguous() for tensor in example) if spread else example

        def make(path: Path) -> None:
            traced = self._neuron.trace(module, share, compiler_args=list(compiler_args) or None)
            torch.jit.save(traced, str(path))

        if self._artifacts is None:
            graph, found = self._neuron.trace(module, share, compiler_args=list(compiler_args) or None), False
        else:
            path, found = self._artifacts.get_or_make(_key(identity, share), make)
            graph = torch.jit.load(str(path))
        if spread:
            cores = list(range(self._cores))
            graph = self._neuron.DataParallel(graph, device_ids=cores, dim=0, set_dynamic_batching=False)
        return graph, found


def signature(inputs: Sequence[Tensor]) -> Signature:
    """Shapes and types of tensors."""
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)


def buckets(largest: int, *, smallest: int = 1, factor: int = 4) -> list[int]:
    """Sizes from `smallest`, each `factor` times the one before, that end with `largest`."""
    sizes: list[int] = []
    size = smallest
    while size < largest:
        sizes.append(size)
        size *= factor
    return [*sizes, largest]


def bucket_for(size: int, sizes: Sequence[int]) -> int:
    """The smallest of ascending `sizes` that holds `size`. Raises `ShapeNotCompiledError`."""
    for bucket in sizes:
        if size <= bucket:
            return bucket
    raise ShapeNotCompiledError(f"{size} is larger than what is compiled: {', '.join(map(str, sizes))}")


def _identity(name: str, module: nn.Module, compiler_args: Sequence[str]) -> str:
    """A digest of everything but the shapes: code, configuration, weights, compiler."""
    digest = hashlib.sha256()
    digest.update("\0".join([name, *compiler_args, *_versions()]).encode())
    # The class's own source, because a wrapper's few lines are what changes most often.
    digest.update(inspect.getsource(type(module)).encode())
    digest.update(repr(module).encode())
    for part in module.modules():
        digest.update(str(getattr(part, "config", "")).encode())
    for key, value in module.state_dict().items():
        digest.update(f"{key}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _key(identity: str, example: Sequence[Tensor]) -> str:
    return hashlib.sha256(f"{identity}\0{_shown(signature(example))}".encode()).hexdigest()[:_KEY_CHARS]


def _versions() -> list[str]:
    found: list[str] = []
    for package in _PACKAGES:
        try:
            found.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _shown(shapes: Signature) -> str:
    return ", ".join(f"{list(shape)} {str(dtype).removeprefix('torch.')}" for shape, dtype in shapes)
