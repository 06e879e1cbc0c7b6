"""The keeper of disruption budgets as the program registers it: one a service, with few rights."""

from __future__ import annotations

from functools import cache

from offline.delete_order import delete_waves, dependencies
from offline.graph import Graph
from offline.recorder import evaluate

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
RBAC = "kubernetes:rbac.authorization.k8s.io/v1"
NAME = "smollm2-135m-instruct-disruption-budgets"


@cache
def local() -> Graph:
    return evaluate("local")


def test_budgets_are_left_to_the_keeper() -> None:
    assert local().by_type("kubernetes:policy/v1:PodDisruptionBudget") == []


def test_the_keeper_may_read_ray_clusters_and_write_budgets_of_its_namespace() -> None:
    assert local().one(f"{RBAC}:Role", NAME).inputs["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["list"]},
        {
            "apiGroups": ["policy"],
            "resources": ["poddisruptionbudgets"],
            "verbs": ["list", "create", "patch"],
        },
    ]
    binding = local().one(f"{RBAC}:RoleBinding", NAME)
    account = {"kind": "ServiceAccount", "name": "disruption-budgets", "namespace": "smollm2-135m-instruct"}
    assert binding.inputs["subjects"] == [account]
    keeper = local().one(DEPLOYMENT, NAME)
    assert keeper.inputs["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    assert binding.urn in dependencies(local())[keeper.urn]


def test_the_keeper_starts_after_the_release_check_and_is_gone_before_the_ray_service() -> None:
    keeper, ray_service = local().one(DEPLOYMENT, NAME), local().one(RAY_SERVICE)
    check = local().one("kubernetes:batch/v1:Job")
    order = {urn: number for number, wave in enumerate(delete_waves(local())) for urn in wave}
    assert check.urn in dependencies(local())[keeper.urn]
    assert order[keeper.urn] < order[ray_service.urn]


def test_the_keeper_reads_a_script_whose_name_is_drawn_for_its_content() -> None:
    script, keeper = local().one(CONFIG_MAP, NAME), local().one(DEPLOYMENT, NAME)
    assert script.inputs["immutable"] is True
    assert "name" not in script.inputs["metadata"]
    assert script.urn in keeper.property_dependencies["spec"]


def test_the_keeper_runs_the_image_of_its_service_without_its_secrets() -> None:
    group = local().one(RAY_SERVICE).inputs["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    pod = local().one(DEPLOYMENT, NAME).inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == group["template"]["spec"]["containers"][0]["image"]
    assert container["env"] == [{"name": "NAMESPACE", "value": "smollm2-135m-instruct"}]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
