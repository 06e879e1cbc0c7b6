"""Where a service's replicas fit: pure functions from a service to the shape of its worker group.

A worker pod takes a whole Neuron node, so that NeuronCores need no scheduler extension: Ray hands the cores
of the node to the replicas on it. On other accelerators a pod has the size that the stack says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.config_errors import ConfigError
from infra.instances import NEURON_INSTANCES, NeuronInstance
from infra.service_base import ModelService, PodSize, Service
from infra.service_config import LlmService

# CPU that an API replica of a model reserves on a worker, and what there must be for two of them: one that
# goes stays until the next one beside it answers.
API_CPUS = 0.5
_API_ROOM_CPUS = 2 * API_CPUS
# What Ray's autoscaler asks for, in a container of its own beside every head. Memory as KubeRay gives it
# (BuildAutoscalerContainer in ray-operator/controllers/ray/common/pod.go, tag ray-operator/v1.7.0); of the
# half CPU that it gives as well, little is used after the start.
AUTOSCALER_CPUS = 0.2
AUTOSCALER_MEMORY_GIB = 0.5

# What DaemonSets (CNI, kube-proxy, CSI, device plugin, Neuron monitor, pod identity) take of a node's
# allocatable: a whole-node pod that asked for all of it would stay Pending.
_DAEMONSET_CPU_MILLIS = 700
_DAEMONSET_MEMORY_MIB = 1024


@dataclass(frozen=True)
class Placement:
    """The worker group of a service.

    `neuron_cores` and `gpus` are those of one worker; `replica_neuron_cores` is what one replica takes. A
    worker is a pod, and on Neuron a node.
    """

    worker_cpu_millis: int
    worker_memory_mib: int
    neuron_devices: int
    neuron_cores: int
    gpus: int
    replica_neuron_cores: int
    replica_gpus: int
    replicas_per_worker: int
    min_workers: int
    max_workers: int


def head_pod(service: Service) -> PodSize:
    """What the pod of a Ray head asks for: the head, and the autoscaler beside it."""
    head = service.head
    return PodSize.model_construct(
        cpus=head.cpus + AUTOSCALER_CPUS, memory_gib=head.memory_gib + AUTOSCALER_MEMORY_GIB
    )


def place(name: str, service: Service) -> Placement:
    """The worker group that holds the service's replicas. Raises `ConfigError` where none can."""
    if service.accelerator == "neuron":
        return _on_neuron_nodes(name, service)
    gpus = 1 if service.accelerator == "nvidia" else 0
    cpus = service.cpus_per_replica if isinstance(service, ModelService) else service.worker.cpus
    by_cpu = int((service.worker.cpus - _API_ROOM_CPUS) // cpus) if isinstance(service, ModelService) else 1
    if by_cpu < 1:
        raise ConfigError(
            f"services.{name}.cpusPerReplica: {cpus:g} and the API's {_API_ROOM_CPUS:g} CPUs do not fit "
            f"worker.cpus {service.worker.cpus:g}; raise worker.cpus to {cpus + _API_ROOM_CPUS:g}"
        )
    per_worker = _spread(service, 1 if gpus else by_cpu)
    return _group(
        service,
        cpu_millis=round(service.worker.cpus * 1000),
        memory_mib=round(service.worker.memory_gib * 1024),
        per_worker=per_worker,
        gpus=gpus,
    )


def _on_neuron_nodes(name: str, service: Service) -> Placement:
    instance_type = service.instance_type or ""
    node = NEURON_INSTANCES.get(instance_type)
    if node is None:
        raise ConfigError(
            f"services.{name}.instanceType: {instance_type!r} is not a Neuron instance type known here; "
            f"choose one of {', '.join(NEURON_INSTANCES)}"
        )
    cores = _replica_cores(name, service, node) if isinstance(service, ModelService) else node.cores
    placement = _group(
        service,
        cpu_millis=node.allocatable_cpu_millis - _DAEMONSET_CPU_MILLIS,
        memory_mib=node.allocatable_memory_mib - _DAEMONSET_MEMORY_MIB,
        per_worker=_spread(service, node.cores // cores),
        node=node,
        replica_neuron_cores=cores,
    )
    if isinstance(service, ModelService):
        _check_cpus(name, service, placement)
    return placement


def _spread(service: Service, per_worker: int) -> int:
    """Replicas that a worker may hold: not all of a service that must survive the loss of one."""
    if not service.ha or service.replicas.min < 2:
        return per_worker
    return min(per_worker, service.replicas.min - 1)


def _check_cpus(name: str, service: ModelService, placement: Placement) -> None:
    # KubeRay rounds the pod's limit up (ray-operator/controllers/ray/common/pod.go, tag ray-operator/v1.7.0).
    there = math.ceil(placement.worker_cpu_millis / 1000)
    replicas = placement.replicas_per_worker
    if replicas * service.cpus_per_replica + _API_ROOM_CPUS > there:
        raise ConfigError(
            f"services.{name}.cpusPerReplica: {service.cpus_per_replica:g} for each of {replicas} replicas "
            f"and {_API_ROOM_CPUS:g} for the API are more than the {there} CPUs of a worker on "
            f"{service.instance_type}; lower it to {(there - _API_ROOM_CPUS) / replicas:g} or less"
        )


def _replica_cores(name: str, service: ModelService, node: NeuronInstance) -> int:
    key, cores = service.cores
    # Tensor parallelism needs a ring that the device has; independent copies of a graph do not.
    degrees = node.tensor_parallel if isinstance(service, LlmService) else range(1, node.cores + 1)
    allowed = [degree for degree in degrees if degree <= node.cores]
    if cores not in allowed:
        raise ConfigError(
            f"services.{name}.{key}: {cores} is not possible on {service.instance_type} with "
            f"its {node.cores} NeuronCores; choose one of {', '.join(map(str, allowed))}"
        )
    return cores


def _group(
    service: Service,
    *,
    cpu_millis: int,
    memory_mib: int,
    per_worker: int,
    gpus: int = 0,
    node: NeuronInstance | None = None,
    replica_neuron_cores: int = 0,
) -> Placement:
    return Placement(
        worker_cpu_millis=cpu_millis,
        worker_memory_mib=memory_mib,
        neuron_devices=node.devices if node else 0,
        neuron_cores=node.cores if node else 0,
        gpus=gpus,
        replica_neuron_cores=replica_neuron_cores,
        replica_gpus=gpus,
        replicas_per_worker=per_worker,
        min_workers=math.ceil(service.replicas.min / per_worker),
        max_workers=math.ceil(service.replicas.max / per_worker),
    )
