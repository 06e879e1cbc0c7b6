"""The table of effects against what is planned, against Ray's functions, and against what derives from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from infra.service_config import LlmService
from offline.diff.ray import RAY_SERVICE, Rollout, rollout
from offline.graph import Resource
from offline.recorder import evaluate
from offline.stack_files import stack_name_of
from tests import changes, schemas
from tests.changes import written
from tests.ray_decisions import decisions
from tests.unit.plans import CPU, NEURON, OWN, plan
from workloads.effects import IS_RELEASE, TABLE, Effect, effect
from workloads.release import release_id
from workloads.upgrade import upgrade_options

CHECKOUT = Path(__file__).resolve().parents[2]
STACK_FILES = sorted([*CHECKOUT.glob("Pulumi.*.yaml"), *CHECKOUT.glob("examples/*/Pulumi.*.yaml")])
SCALED = {"replicas": {"min": 1, "max": 3}}
MADE = {
    "one replica": CPU | {"replicas": {"min": 1, "max": 1}},
    "autoscaled": CPU | SCALED,
    "ha": NEURON | {"ha": True, "replicas": {"min": 2, "max": 4}},
    "limits": CPU | {"auth": "api-keys", "limits": {"requestsPerMinute": 10}},
    "own": OWN,
}
SERVE = "serveConfigV2"
# What Ray's controller handles beside the functions that are asked here (controller.apply_config,
# application_state.ApplicationState._set_target_state and _reconcile_target_deployments, Ray 2.60).
BESIDE = {"logging_config", "external_scaler_enabled", "target_capacity"}

# A value for each option that no plan has.
OPTIONS: dict[str, Any] = {
    "num_replicas": 3,
    "max_ongoing_requests": 7,
    "max_queued_requests": 7,
    "user_config": {"a": 1},
    "graceful_shutdown_wait_loop_s": 1,
    "graceful_shutdown_timeout_s": 1,
    "health_check_period_s": 1,
    "health_check_timeout_s": 1,
    "backpressure_config": {"status_code": 429},
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 2},
    "logging_config": {"log_level": "DEBUG"},
    "ray_actor_options": {"num_cpus": 3},
    "placement_group_bundles": [{"CPU": 1}],
    "placement_group_strategy": "SPREAD",
    "placement_group_bundle_label_selector": [{"a": "b"}],
    "max_replicas_per_node": 3,
    "request_router_config": {"request_router_kwargs": {"a": 1}},
    "gang_scheduling_config": {"gang_size": 1},
    "deployment_actors": [],
    "rolling_update_percentage": 0.5,
    "max_surge_percent": 50,
}
APPLICATION: dict[str, Any] = {
    "route_prefix": "/other",
    "import_path": "other:app",
    "runtime_env": {"env_vars": {"A": "b"}},
    "args": {"other": 1},
    "autoscaling_policy": {"policy_function": "other:policy"},
    "logging_config": {"log_level": "DEBUG"},
    "external_scaler_enabled": True,
}
# Ray refuses a config with them.
REFUSED = {"host", "port"}


def opened(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, SERVE: yaml.safe_load(spec[SERVE])}


def closed(spec: dict[str, Any]) -> Resource:
    inputs = {"spec": {**spec, SERVE: yaml.safe_dump(spec[SERVE])}}
    return Resource(urn="urn:pulumi:s::p::t::chat", type=RAY_SERVICE, name="chat", custom=True, inputs=inputs)


@cache
def planned() -> list[dict[str, Any]]:
    """The specs of all RayServices of the project's stacks and examples, and of some more services."""
    graphs = [evaluate(stack_name_of(file), stack_file=file) for file in STACK_FILES]
    specs = [service.inputs["spec"] for graph in graphs for service in graph.by_type(RAY_SERVICE)]
    return [opened(spec) for spec in [*specs, *(plan(base).spec for base in MADE.values())]]


@cache
def changed_leaves() -> list[tuple[dict[str, Any], dict[str, Any], changes.Path]]:
    """Every value of every spec changed by itself, once for each place whatever the entry of a list."""
    return list(_changed_leaves())


def _changed_leaves() -> Iterator[tuple[dict[str, Any], dict[str, Any], changes.Path]]:
    seen: set[str] = set()
    for spec in planned():
        for path in changes.leaves(spec):
            place = written(tuple(0 if isinstance(key, int) else key for key in path))
            if place not in seen and path[-1] not in ("name", "groupName"):
                seen.add(place)
                yield spec, changes.put(spec, path, changes.other(changes.at(spec, path))), path


def told(result: Rollout) -> set[Effect]:
    """What a rollout says, as effects; of a reload it does not matter whose."""
    found = {
        Effect.SECOND_CLUSTER: result.new_cluster,
        Effect.RELOAD: result.reloads,
        Effect.IN_PLACE: result.in_place,
        Effect.OPERATOR: result.operator,
        Effect.NOTHING: result.nothing,
        Effect.UNKNOWN: result.unknown,
    }
    return {kind for kind, properties in found.items() if properties}


def as_told(found: Effect) -> Effect:
    # Of a value that changes alone.
    return {Effect.RELOAD_APPLICATION: Effect.RELOAD, Effect.RELOAD_WITH_NEXT: Effect.NOTHING}.get(
        found, found
    )


def test_nothing_that_is_planned_has_an_unknown_effect() -> None:
    unknown = [written(path) for *_, path in changed_leaves() if effect(written(path)) is Effect.UNKNOWN]
    assert unknown == []


def test_the_diff_says_of_every_value_what_the_table_says() -> None:
    for before, after, path in changed_leaves():
        expected = as_told(effect(written(path)))
        assert told(rollout(closed(before), closed(after))) == {expected}, written(path)


def test_a_release_is_another_one_for_what_reloads_or_makes_a_second_cluster_alone() -> None:
    for before, after, path in changed_leaves():
        ids = [release_id(spec[SERVE], spec["rayClusterConfig"]) for spec in (before, after)]
        assert (ids[0] != ids[1]) == (effect(written(path)) in IS_RELEASE), written(path)


def test_an_upgrade_without_a_second_cluster_replaces_for_what_would_make_one() -> None:
    recreated = LlmService.model_validate(CPU | {"upgrade": "recreate"})
    replacing = [path.replace("[*]", "[0]") for path in upgrade_options(recreated)["replace_on_changes"]]
    for *_, path in changed_leaves():
        where = f"spec.{written(path)}"
        replaced = any(where == place or where.startswith((f"{place}.", f"{place}[")) for place in replacing)
        expected = effect(written(path)) is Effect.SECOND_CLUSTER or "tolerations" in path
        assert replaced == expected, where


def test_ray_does_to_replicas_what_the_table_says_of_every_value() -> None:
    for before, after, path in changed_leaves():
        if path[0] == SERVE:
            assert_as_ray_decides(before[SERVE], after[SERVE], path, effect(written(path)))


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_ray_does_what_the_table_says_of_an_option_that_comes_or_goes(option: str) -> None:
    where: changes.Path = (SERVE, "applications", 0, "deployments", 0, option)
    bare = {
        **opened(plan(OWN).spec),
        SERVE: {
            "applications": [
                {"name": "own", "import_path": "my.app:build", "deployments": [{"name": "Greeter"}]}
            ]
        },
    }
    if option.startswith("placement_group_") and option != "placement_group_bundles":
        bare = changes.put(bare, (*where[:-1], "placement_group_bundles"), OPTIONS["placement_group_bundles"])
    there = changes.put(bare, where, OPTIONS[option])
    found = effect(written(where))
    expected = Effect.RELOAD if found is Effect.RELOAD_WITH_NEXT else found
    for before, after in ((bare, there), (there, bare)):
        assert_as_ray_decides(before[SERVE], after[SERVE], where, expected)
        assert told(rollout(closed(before), closed(after))) == {as_told(expected)}


@pytest.mark.parametrize("field", sorted(APPLICATION))
def test_ray_does_what_the_table_says_of_a_field_of_an_application(field: str) -> None:
    where: changes.Path = (SERVE, "applications", 0, field)
    before = opened(plan(OWN).spec)
    after = changes.put(before, where, APPLICATION[field])
    assert_as_ray_decides(before[SERVE], after[SERVE], where, effect(written(where)))


def assert_as_ray_decides(
    before: dict[str, Any], after: dict[str, Any], path: changes.Path, expected: Effect
) -> None:
    decided = decisions(before, after)
    if BESIDE & set(path):
        assert (expected, set(decided.values()) <= {Effect.NOTHING, Effect.IN_PLACE}) == (
            Effect.IN_PLACE,
            True,
        ), written(path)
    elif "deployments" in path and expected is not Effect.RELOAD_APPLICATION:
        name = before["applications"][0]["deployments"][path[4]]["name"]
        others = {found for other, found in decided.items() if other != name}
        assert (decided[name], others <= {Effect.NOTHING}) == (expected, True), written(path)
    else:
        assert set(decided.values()) == {expected}, written(path)


def test_the_table_has_every_field_of_this_rays_schema() -> None:
    for schema, parent, named in (
        (DeploymentSchema, f"{SERVE}.applications[0].deployments[0]", {"name"}),
        (ServeApplicationSchema, f"{SERVE}.applications[0]", {"name", "deployments", *REFUSED}),
        (ServeDeploySchema, SERVE, {"applications"}),
    ):
        fields = set(schema.model_fields) - named
        unknown = {field for field in fields if effect(f"{parent}.{field}") is Effect.UNKNOWN}
        assert unknown == set()
    assert set(OPTIONS) == set(DeploymentSchema.model_fields) - {"name"}
    assert set(APPLICATION) == set(ServeApplicationSchema.model_fields) - {"name", "deployments", *REFUSED}


def test_the_table_has_the_fields_of_the_custom_resource_and_no_others() -> None:
    spec = schemas.custom_resource_schema("ray.io_rayservices.yaml", "v1")["properties"]["spec"]
    for place in TABLE:
        if not place.startswith(SERVE):
            assert_defined(spec, place)
    # Who manages the resource is fixed, and a suspended service has nothing that runs.
    unknown = {field for field in spec["properties"] if effect(field) is Effect.UNKNOWN}
    assert unknown == {SERVE, "managedBy", "suspend"}


def assert_defined(schema: dict[str, Any], place: str) -> None:
    for segment in place.split("."):
        schema = schema["items"] if segment == "*" else schema["properties"][segment]
