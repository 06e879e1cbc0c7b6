"""`upgrade: recreate` replaces the RayService for what KubeRay would make a second cluster for, no more."""

from __future__ import annotations

from typing import Any

from infra.service_config import LlmService
from tests.unit.plans import NEURON, SECRETS
from workloads.placement import place
from workloads.ray_cluster import StoreAccess, ray_cluster
from workloads.upgrade import upgrade_options

# GenerateHashWithoutReplicasAndWorkersToDelete (utils/util.go of KubeRay's tag ray-operator/v1.7.0).
IN_PLACE = {"replicas", "minReplicas", "maxReplicas"}


def recreated() -> LlmService:
    return LlmService.model_validate(NEURON | {"upgrade": "recreate"})


def cluster() -> dict[str, Any]:
    store = StoreAccess("gcs-store", tls=True)
    return ray_cluster("chat", recreated(), place("chat", recreated()), SECRETS, store=store)


def test_by_default_the_operator_upgrades() -> None:
    assert upgrade_options(LlmService.model_validate(NEURON)) == {}


def test_the_old_one_goes_first() -> None:
    assert upgrade_options(recreated())["delete_before_replace"] is True


def test_every_part_of_the_cluster_but_its_size_replaces_it() -> None:
    paths = set(upgrade_options(recreated())["replace_on_changes"])
    parts = {f"spec.rayClusterConfig.{key}" for key in cluster() if key != "workerGroupSpecs"}
    group = cluster()["workerGroupSpecs"][0]
    parts |= {f"spec.rayClusterConfig.workerGroupSpecs[*].{key}" for key in group if key not in IN_PLACE}
    assert parts == paths


def test_an_ha_service_insists_on_different_nodes() -> None:
    service = LlmService.model_validate(NEURON | {"ha": True})
    made = ray_cluster("chat", service, place("chat", service), SECRETS)
    nodes, zones = made["workerGroupSpecs"][0]["template"]["spec"]["topologySpreadConstraints"]
    assert (nodes["whenUnsatisfiable"], zones["whenUnsatisfiable"]) == ("DoNotSchedule", "ScheduleAnyway")
