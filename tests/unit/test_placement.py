from __future__ import annotations

from typing import Any

import pytest

from infra.config_errors import ConfigError
from infra.instances import NEURON_INSTANCES
from infra.service_config import BringYourOwnService, LlmService
from workloads.placement import place

NEURON = {
    "app": "llm",
    "model": "m",
    "accelerator": "neuron",
    "instanceType": "inf2.24xlarge",
    "tensorParallel": 2,
    "image": "i:1",
}
CPU = {"app": "llm", "model": "m", "accelerator": "cpu", "image": "i:1"}


def llm(base: dict[str, Any], **changes: Any) -> LlmService:
    return LlmService.model_validate(base | changes)


def test_a_neuron_worker_takes_a_whole_node_and_leaves_room_for_daemonsets() -> None:
    placement = place("chat", llm(NEURON))
    node = NEURON_INSTANCES["inf2.24xlarge"]
    assert (placement.neuron_devices, placement.neuron_cores) == (6, 12)
    assert 0 < placement.worker_cpu_millis < node.allocatable_cpu_millis
    assert 0 < placement.worker_memory_mib < node.allocatable_memory_mib


@pytest.mark.parametrize(
    ("tensor_parallel", "replicas", "per_worker", "workers"),
    [(2, (1, 12), 6, (1, 2)), (8, (2, 3), 1, (2, 3)), (4, (3, 4), 3, (1, 2))],
)
def test_replicas_share_the_cores_of_a_worker(
    tensor_parallel: int, replicas: tuple[int, int], per_worker: int, workers: tuple[int, int]
) -> None:
    bounds = {"min": replicas[0], "max": replicas[1]}
    placement = place("chat", llm(NEURON, tensorParallel=tensor_parallel, replicas=bounds))
    assert placement.replicas_per_worker == per_worker
    assert (placement.min_workers, placement.max_workers) == workers


@pytest.mark.parametrize(
    ("instance_type", "degree", "allowed"),
    [("inf2.8xlarge", 4, "1, 2"), ("inf2.24xlarge", 24, "1, 2, 4, 8"), ("trn1.32xlarge", 4, "1, 2, 8, 32")],
)
def test_a_tensor_parallel_degree_the_device_does_not_have_is_refused(
    instance_type: str, degree: int, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tensorParallel: {degree} .* choose one of {allowed}$"):
        place("chat", llm(NEURON, instanceType=instance_type, tensorParallel=degree))


def test_an_unknown_instance_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"'inf2.4xlarge' is not .* choose one of inf2.xlarge, inf2.8xlarge"
    ):
        place("chat", llm(NEURON, instanceType="inf2.4xlarge"))


def test_replicas_share_a_worker_by_cpu() -> None:
    placement = place("chat", llm(CPU, worker={"cpus": 4, "memoryGib": 8}, replicas={"min": 4, "max": 4}))
    assert (placement.replicas_per_worker, placement.min_workers) == (3, 2)
    assert (placement.worker_cpu_millis, placement.worker_memory_mib) == (4000, 8192)
    assert placement.neuron_cores == 0


def test_a_replica_and_the_api_must_fit_a_worker() -> None:
    with pytest.raises(ConfigError, match=r"cpusPerReplica: 1.8 and the API's 1 .* raise worker.cpus to 2.8"):
        place("chat", llm(CPU, cpusPerReplica=1.8))


def test_a_replica_with_a_gpu_and_the_api_must_fit_a_worker_too() -> None:
    with pytest.raises(ConfigError, match=r"raise worker.cpus to 2.8"):
        place("chat", llm(CPU, accelerator="nvidia", cpusPerReplica=1.8))


def test_a_gpu_worker_holds_one_replica() -> None:
    placement = place("chat", llm(CPU, accelerator="nvidia", worker={"cpus": 8, "memoryGib": 32}))
    assert (placement.gpus, placement.replica_gpus, placement.replicas_per_worker) == (1, 1, 1)


def test_an_application_of_the_users_own_gets_a_worker_a_replica() -> None:
    own = {"app": "bring-your-own", "importPath": "a.b:c", "accelerator": "cpu", "image": "i:1"}
    placement = place("own", BringYourOwnService.model_validate(own | {"replicas": {"min": 2, "max": 3}}))
    assert (placement.min_workers, placement.max_workers) == (2, 3)
