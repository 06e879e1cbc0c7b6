"""What an update of a RayService does to what runs."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from offline.diff import ray
from offline.graph import Resource
from tests.unit.plans import NEURON, plan
from workloads.capacity import Demand

SERVE: dict[str, Any] = {
    "applications": [
        {
            "name": "chat",
            "import_path": "app:build",
            "route_prefix": "/",
            "args": {"slots": 8},
            "runtime_env": {"working_dir": "s3://bucket/code-1.zip"},
            "deployments": [
                {"name": "Api", "num_replicas": 1, "user_config": {"release": "1"}},
                {
                    "name": "Engine",
                    "autoscaling_config": {"min_replicas": 1, "max_replicas": 2},
                    "ray_actor_options": {"resources": {"neuron_cores": 2}},
                },
            ],
        }
    ]
}
CLUSTER: dict[str, Any] = {
    "headGroupSpec": {"template": {"spec": {"containers": [{"name": "head", "image": "ray:1"}]}}},
    "workerGroupSpecs": [
        {
            "groupName": "workers",
            "replicas": 2,
            "minReplicas": 1,
            "maxReplicas": 4,
            "resources": {"neuron_cores": "12"},
            "template": {"spec": {"containers": [{"name": "worker", "image": "ray:1"}], "tolerations": []}},
        }
    ],
}


def service(cluster: dict[str, Any], serve: dict[str, Any], **spec: Any) -> Resource:
    inputs = {"spec": {"rayClusterConfig": cluster, "serveConfigV2": yaml.safe_dump(serve), **spec}}
    return Resource(
        urn="urn:pulumi:dev::p::t::chat", type=ray.RAY_SERVICE, name="chat", custom=True, inputs=inputs
    )


def after_cluster(*path: Any, value: Any) -> ray.Rollout:
    changed = deepcopy(CLUSTER)
    _put(changed, path, value)
    return ray.rollout(service(CLUSTER, SERVE), service(changed, SERVE))


def after_serve(*path: Any, value: Any) -> ray.Rollout:
    changed = deepcopy(SERVE)
    _put(changed, path, value)
    return ray.rollout(service(CLUSTER, SERVE), service(CLUSTER, changed))


def _put(target: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (
            ("headGroupSpec", "template", "spec", "containers", 0, "image"),
            "ray:2",
            "headGroupSpec.template.spec.containers[head].image",
        ),
        (
            ("workerGroupSpecs", 0, "resources", "neuron_cores"),
            "24",
            "workerGroupSpecs[workers].resources.neuron_cores",
        ),
        (("rayVersion",), "2.61.0", "rayVersion"),
        (("workerGroupSpecs",), [], "workerGroupSpecs[workers]"),
    ],
)
def test_the_shape_of_the_cluster_makes_a_second_one(path: tuple[Any, ...], value: Any, where: str) -> None:
    result = after_cluster(*path, value=value)
    assert result.new_cluster == [f"spec.rayClusterConfig.{where}"]


def test_the_second_cluster_asks_for_its_own_neuron_cores() -> None:
    assert after_cluster("rayVersion", value="2.61.0").neuron_cores == 24


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("workerGroupSpecs", 0, "replicas"), 3),
        (("workerGroupSpecs", 0, "minReplicas"), 2),
        (("workerGroupSpecs", 0, "maxReplicas"), 9),
        (("workerGroupSpecs", 0, "scaleStrategy"), {"workersToDelete": ["a"]}),
        (("workerGroupSpecs", 0, "template", "spec", "tolerations"), [{"key": "a"}]),
        (("headGroupSpec", "template", "spec", "tolerations"), [{"key": "a"}]),
        (("suspend",), True),
        (("upgradeStrategy",), {"type": "Recreate"}),
    ],
)
def test_what_the_operator_does_not_hash_makes_none(path: tuple[Any, ...], value: Any) -> None:
    result = after_cluster(*path, value=value)
    assert result.new_cluster == []
    assert len(result.nothing) == 1


def test_a_worker_group_at_the_end_is_added_to_the_running_cluster() -> None:
    groups = [*CLUSTER["workerGroupSpecs"], {"groupName": "more", "replicas": 1}]
    result = after_cluster("workerGroupSpecs", value=groups)
    assert result.new_cluster == []
    assert result.in_place == {"rayClusterConfig": ["workerGroupSpecs[more]"]}


def test_a_worker_group_in_front_makes_a_second_cluster() -> None:
    groups = [{"groupName": "more", "replicas": 1}, *CLUSTER["workerGroupSpecs"]]
    assert after_cluster("workerGroupSpecs", value=groups).new_cluster != []


def test_the_diff_and_the_capacity_count_the_same_second_cluster() -> None:
    planned = plan(NEURON)
    cluster, serve = planned.spec["rayClusterConfig"], yaml.safe_load(planned.spec["serveConfigV2"])
    found = ray.rollout(service(CLUSTER, SERVE), service(cluster, serve))
    demand = Demand("chat", planned.service, planned.placement)
    assert found.neuron_cores == demand.second_cluster_workers * planned.placement.neuron_cores > 0


def test_upgrade_strategy_none_leaves_the_cluster_alone() -> None:
    changed = {**deepcopy(CLUSTER), "rayVersion": "2.61.0"}
    strategy = {"upgradeStrategy": {"type": "None"}}
    result = ray.rollout(service(CLUSTER, SERVE, **strategy), service(changed, SERVE, **strategy))
    assert result.upgrade_disabled


@pytest.mark.parametrize("field", ["args", "runtime_env"])
def test_code_and_arguments_reload_every_deployment(field: str) -> None:
    result = after_serve("applications", 0, field, value={"x": 1})
    assert list(result.reloads) == ["chat"]
    assert result.in_place == {}
    assert result.new_cluster == []


def test_actor_options_reload_their_deployment_alone() -> None:
    result = after_serve("applications", 0, "deployments", 1, "ray_actor_options", value={"num_cpus": 2})
    assert list(result.reloads) == ["chat/Engine"]


@pytest.mark.parametrize(
    ("deployment", "option", "value", "owner"),
    [
        (0, "user_config", {"release": "2"}, "chat/Api"),
        (1, "autoscaling_config", {"max_replicas": 9}, "chat/Engine"),
    ],
)
def test_user_config_and_scaling_reload_nothing(deployment: int, option: str, value: Any, owner: str) -> None:
    result = after_serve("applications", 0, "deployments", deployment, option, value=value)
    assert result.reloads == {}
    assert list(result.in_place) == [owner]


def test_a_scaling_policy_is_code() -> None:
    value = {"min_replicas": 1, "max_replicas": 2, "policy": {"policy_function": "mine"}}
    result = after_serve("applications", 0, "deployments", 1, "autoscaling_config", value=value)
    assert list(result.reloads) == ["chat"]


def test_an_application_that_comes_or_goes_is_named() -> None:
    result = after_serve("applications", 0, "name", value="other")
    assert result.reloads == {"chat": ["application removed"], "other": ["new application"]}


def test_an_option_that_nobody_knows_is_not_guessed() -> None:
    assert after_serve("applications", 0, "deployments", 0, "invented", value=1).unknown == [
        "chat/Api.invented"
    ]
    assert after_serve("invented", value=1).unknown == ["serveConfigV2.invented"]


def test_what_serve_reads_at_its_start_reaches_nothing_that_runs() -> None:
    result = after_serve("http_options", value={"port": 9000})
    assert result == ray.Rollout(nothing=["serveConfigV2.http_options"], neuron_cores=24)


def test_what_the_operator_alone_looks_at_is_its_own() -> None:
    result = ray.rollout(service(CLUSTER, SERVE), service(CLUSTER, SERVE, excludeHeadPodFromServeSvc=True))
    assert result == ray.Rollout(operator=["spec.excludeHeadPodFromServeSvc"], neuron_cores=24)


def test_a_deployment_that_begins_to_scale_by_itself_reloads_its_application() -> None:
    scaling = {"min_replicas": 1, "max_replicas": 2}
    result = after_serve("applications", 0, "deployments", 0, "autoscaling_config", value=scaling)
    assert result.reloads == {"chat": ["Api.autoscaling_config"]}


def spread(**engine: Any) -> dict[str, Any]:
    changed = deepcopy(SERVE)
    changed["applications"][0]["deployments"][1] |= engine
    return changed


def test_another_spread_waits_for_the_next_change_of_its_deployment() -> None:
    before = service(CLUSTER, spread(max_replicas_per_node=1))
    alone = ray.rollout(before, service(CLUSTER, spread(max_replicas_per_node=2)))
    assert (alone.reloads, alone.nothing) == ({}, ["chat/Engine.max_replicas_per_node"])
    together = ray.rollout(before, service(CLUSTER, spread(max_replicas_per_node=2, max_ongoing_requests=9)))
    assert together.reloads == {"chat/Engine": ["max_replicas_per_node"]}
    new = ray.rollout(service(CLUSTER, SERVE), before)
    assert new.reloads == {"chat/Engine": ["max_replicas_per_node"]}


@pytest.mark.parametrize(
    ("engine", "away"),
    [
        ({}, ["chat/Api", "chat/Engine"]),
        ({"autoscaling_config": {"min_replicas": 2, "max_replicas": 3}}, ["chat/Api"]),
        ({"max_surge_percent": 100}, ["chat/Api"]),
    ],
)
def test_a_single_replica_that_ends_before_the_next_is_loaded_is_named(
    engine: dict[str, Any], away: list[str]
) -> None:
    before, after = spread(**engine), spread(**engine)
    after["applications"][0]["args"] = {"slots": 4}
    assert ray.rollout(service(CLUSTER, before), service(CLUSTER, after)).away == away


def test_a_reload_of_one_deployment_leaves_the_others_there() -> None:
    result = after_serve("applications", 0, "deployments", 1, "ray_actor_options", value={"num_cpus": 2})
    assert result.away == ["chat/Engine"]


def test_a_second_cluster_takes_nothing_away() -> None:
    changed = spread(ray_actor_options={"num_cpus": 2})
    result = ray.rollout(service(CLUSTER, SERVE), service({**CLUSTER, "rayVersion": "2.61.0"}, changed))
    assert result.second_cluster
    assert result.away == []
