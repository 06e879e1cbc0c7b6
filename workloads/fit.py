"""Whether a replica can work where the stack file puts it: context, engine, memory of NeuronCores and node.

Only what the library, the model or the device refuses is an error. What may go wrong is a warning, and what
costs without serving anybody is a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from infra.config_errors import ConfigError
from infra.instances import HBM_BYTES, NEURON_INSTANCES, NeuronInstance
from infra.model_shape import ModelShape
from infra.service_config import MIN_NEURON_SLOTS, LlmService
from workloads.memory import DTYPE_BYTES, EngineSize, ReplicaMemory, padded_heads, replica_memory
from workloads.model_shapes import shape_of
from workloads.placement import Placement

# What transformers-neuronx runs with continuous batching (archive/transformers-neuronx/
# transformers-neuronx-developer-guide-for-continuous-batching.rst in
# https://github.com/aws-neuron/aws-neuron-sdk, 2026-11).
_NEURONX_FAMILIES = ("llama", "mistral")
_GIB = 2**30
# Suggested context lengths are multiples of this.
_TOKEN_STEP = 128


@dataclass(frozen=True)
class Fit:
    """`memory` is one replica's on each of its NeuronCores, None where it is unknown or there are none."""

    memory: ReplicaMemory | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def replica_fit(name: str, service: LlmService, placement: Placement) -> Fit:
    """How a replica of the service fits its worker. Raises `ConfigError` where it cannot work."""
    shape = shape_of(service)
    if shape is None:
        if service.accelerator != "neuron":
            return Fit()
        unknown = (
            f"services.{name}.model: the shape of {service.model!r} is not known here, so whether a replica "
            "fits its NeuronCores is unknown; give its modelShape"
        )
        return Fit(warnings=(unknown,))
    findings = list(_model_findings(name, service, shape))
    if findings:
        raise ConfigError(*findings)
    if service.accelerator != "neuron":
        return Fit()
    node = NEURON_INSTANCES[service.instance_type or ""]
    size = _size(service)
    memory = _memory(shape, service, size)
    limit_is_certain = service.neuron_workspace_mib is not None
    if (memory.total if limit_is_certain else memory.allocated) > HBM_BYTES:
        raise ConfigError(_too_large(name, service, shape, node, memory))
    return Fit(
        memory=memory,
        warnings=tuple(_warnings(name, service, placement, memory)),
        notes=tuple(_notes(name, service, shape, memory)),
    )


def _model_findings(name: str, service: LlmService, shape: ModelShape) -> Iterator[str]:
    if service.max_model_len > shape.max_context:
        yield (
            f"services.{name}.maxModelLen: {service.max_model_len} is beyond the context of "
            f"{service.model!r}, {shape.max_context} tokens; lower it to {shape.max_context} or less"
        )
    if service.accelerator == "neuron" and shape.family not in _NEURONX_FAMILIES:
        yield (
            f"services.{name}.model: {service.model!r} is of the family {shape.family!r}, and the engine "
            f"transformers-neuronx serves only {' and '.join(_NEURONX_FAMILIES)}; choose such a model, or "
            "accelerator: nvidia or cpu, where the engine is torch"
        )


def _size(service: LlmService) -> EngineSize:
    return EngineSize(
        service.tensor_parallel, service.slots, service.max_model_len, DTYPE_BYTES[service.dtype]
    )


def _memory(shape: ModelShape, service: LlmService, size: EngineSize) -> ReplicaMemory:
    measured = service.neuron_workspace_mib
    return replica_memory(shape, size, workspace_bytes=None if measured is None else measured * 2**20)


def _too_large(
    name: str, service: LlmService, shape: ModelShape, node: NeuronInstance, memory: ReplicaMemory
) -> str:
    parts = f"weights {_gib(memory.weights)}, KV cache {_gib(memory.kv_cache)}"
    if service.neuron_workspace_mib is not None:
        parts += f", workspace {_gib(memory.workspace)}"
    needed = memory.allocated if service.neuron_workspace_mib is None else memory.total
    ways = list(_ways_out(service, shape, node))
    way_out = f"it fits with {', or '.join(ways)}" if ways else "choose a smaller model or a larger instance"
    return (
        f"services.{name}.tensorParallel: with {service.tensor_parallel} a replica needs {_gib(needed)} of "
        f"every NeuronCore of {service.instance_type} ({parts}), which has {_gib(HBM_BYTES)}; {way_out}"
    )


def _ways_out(service: LlmService, shape: ModelShape, node: NeuronInstance) -> Iterator[str]:
    """The smallest change of each setting that makes the replica fit, with its workspace."""

    def fits(size: EngineSize) -> bool:
        return _memory(shape, service, size).total <= HBM_BYTES

    size = _size(service)
    for degree in node.tensor_parallel:
        if degree > size.tensor_parallel and fits(replace(size, tensor_parallel=degree)):
            yield f"tensorParallel {degree}" + _on_a_larger_node(degree, node)
            break
    for slots in range(size.slots - 1, MIN_NEURON_SLOTS - 1, -1):
        if fits(replace(size, slots=slots)):
            yield f"slots {slots}"
            break
    longest = (size.max_model_len - 1) // _TOKEN_STEP * _TOKEN_STEP
    for length in range(longest, 0, -_TOKEN_STEP):
        if fits(replace(size, max_model_len=length)):
            yield f"maxModelLen {length}"
            break


def _on_a_larger_node(degree: int, node: NeuronInstance) -> str:
    if degree <= node.cores:
        return ""
    larger = (
        name
        for name, other in NEURON_INSTANCES.items()
        if other.cores >= degree and degree in other.tensor_parallel
    )
    return f" on {next(larger)}"


def _warnings(name: str, service: LlmService, placement: Placement, memory: ReplicaMemory) -> Iterator[str]:
    if memory.total > HBM_BYTES:
        yield (
            f"services.{name}: weights and KV cache leave {_gib(HBM_BYTES - memory.allocated)} of a "
            f"NeuronCore, and programs are estimated to need {_gib(memory.workspace)}; lower slots or "
            "maxModelLen, or set neuronWorkspaceMib to what neuron-top shows"
        )
    loading = memory.checkpoint * placement.replicas_per_worker
    if loading > placement.worker_memory_mib * 2**20:
        yield (
            f"services.{name}.instanceType: {service.instance_type} leaves a worker "
            f"{_gib(placement.worker_memory_mib * 2**20)} of memory, and the {_gib(loading)} of weights that "
            "its replicas load together may not fit while they load; choose a larger type"
        )


def _notes(name: str, service: LlmService, shape: ModelShape, memory: ReplicaMemory) -> Iterator[str]:
    if not memory.padding:
        return
    heads, kv_heads = padded_heads(shape.heads, shape.kv_heads, service.tensor_parallel)
    yield (
        f"services.{name}.tensorParallel: {service.tensor_parallel} pads {shape.heads} heads to {heads} and "
        f"{shape.kv_heads} KV heads to {kv_heads}: {_gib(memory.padding)} of the "
        f"{_gib(memory.allocated)} on every NeuronCore hold nothing of the model"
    )


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
