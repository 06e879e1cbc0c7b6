"""The release check's script, run as the Job runs it, against real HTTP servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tests.unit.plans import CPU, NEURON, OWN, plan
from tests.unit.release_world import (
    APPLICATION,
    COMPLETIONS,
    DASHBOARD,
    JOBS,
    KUBERNETES,
    RAY_SERVICE,
    Answer,
    World,
    deployment,
    job,
    run,
)
from workloads.release_check_script.serve import not_in_force
from workloads.service_plan import ServicePlan

SOON = {"timeout_s": 0.3}
# Options of deployments that Ray might report in other words than it was given.
OPTIONS = [
    {"name": "Greeter", "num_replicas": "auto", "user_config": {"greeting": None}},
    {"name": "Counter", "autoscaling_config": {"max_replicas": 3}, "health_check_period_s": 5},
    {"name": "Writer", "num_replicas": 2, "ray_actor_options": {"num_cpus": 1}},
]


def deployed(world: World) -> dict[str, Any]:
    assert world.application is not None
    return world.application


def scaled(**options: Any) -> dict[str, Any]:
    """An application whose engine has other numbers."""
    return APPLICATION | {"deployments": [{"name": "Engine", **options}]}


def test_a_release_that_answers_passes() -> None:
    world = World()
    result = run(world)
    assert result.code == 0, result.printed
    assert result.printed.splitlines()[-1] == "chat release r2 answered a question with 3 tokens"
    assert world.questions[0]["model"] == "smol"
    assert world.tokens[DASHBOARD] == "Bearer ray-token"


def test_the_question_carries_the_first_api_key(tmp_path: Path) -> None:
    world = World()
    keys = tmp_path / "keys"
    keys.write_text("\nfirst-key\nsecond-key\n")
    assert run(world, API_KEYS_FILE=str(keys)).code == 0
    assert world.tokens[COMPLETIONS] == "Bearer first-key"


def test_it_waits_through_a_roll_out() -> None:
    world = World()
    world.ray_service["status"]["observedGeneration"] = 1
    world.health = (200, {"release": "r1"})
    deployed(world)["status"] = "DEPLOYING"
    changes = iter(
        [
            lambda: world.ray_service["status"].update(observedGeneration=2),
            lambda: deployed(world).update(status="RUNNING"),
            lambda: setattr(world, "health", (200, {"release": "r2"})),
        ]
    )
    world.on_poll = lambda: next(changes, lambda: None)()
    result = run(world)
    assert result.code == 0, result.printed
    assert "Ray Serve is DEPLOYING" in result.printed
    assert "the service still answers as release r1" in result.printed


def test_a_new_cluster_is_watched_until_traffic_has_moved() -> None:
    world = World()
    status = world.ray_service["status"]
    status["pendingServiceStatus"] = {"rayClusterName": "chat-fghij"}
    polls = iter(range(100))
    world.on_poll = lambda: status.update(pendingServiceStatus={}) if next(polls) == 2 else None
    result = run(world)
    assert result.code == 0, result.printed
    assert "waiting for traffic to move to it" in result.printed


def test_more_replicas_are_waited_for_until_they_run() -> None:
    world, wanted = World(), scaled(num_replicas=2)
    deployed(world)["deployed_app_config"] = wanted
    engine = deployment(1, "RUNNING")
    deployed(world)["deployments"] = {"Engine": engine}
    changes = iter(
        [
            lambda: None,
            lambda: engine.update(target_num_replicas=2),
            lambda: engine["replicas"].append({"state": "STARTING"}),
            lambda: engine["replicas"][1].update(state="RUNNING"),
        ]
    )
    world.on_poll = lambda: next(changes, lambda: None)()
    result = run(world, {"application": wanted})
    assert result.code == 0, result.printed
    assert "Engine has 1 replicas that run and is on its way to 1; 2 are to run" in result.printed
    assert "Engine has 1 replicas that run and is on its way to 2; 2 are to run" in result.printed


@pytest.mark.parametrize(
    ("options", "target", "running", "in_force"),
    [
        ({"num_replicas": 2}, 2, 2, True),
        ({"num_replicas": 1}, 1, 2, False),
        ({"num_replicas": 2}, 2, 1, False),
        ({"autoscaling_config": {"min_replicas": 1, "max_replicas": 3}}, 3, 2, True),
        ({"autoscaling_config": {"min_replicas": 2, "max_replicas": 3}}, 2, 1, False),
        ({"autoscaling_config": {"min_replicas": 1, "max_replicas": 3}}, 4, 3, False),
        ({"autoscaling_config": {"min_replicas": 1, "max_replicas": 3}}, 3, 4, False),
        ({"autoscaling_config": {"min_replicas": 0, "max_replicas": 3}}, 0, 0, True),
        ({"num_replicas": "auto"}, 5, 5, True),
        # The code says how many.
        ({"max_queued_requests": 4}, 2, 2, True),
        ({"max_queued_requests": 4}, 2, 1, False),
    ],
)
def test_a_scale_is_in_force_when_as_many_replicas_run(
    options: dict[str, Any], target: int, running: int, in_force: bool
) -> None:
    world, wanted = World(), scaled(**options)
    deployed(world)["deployed_app_config"] = wanted
    deployed(world)["deployments"] = {"Engine": deployment(target, *["RUNNING"] * running, "STOPPING")}
    assert (run(world, {"application": wanted} | SOON).code == 0) is in_force


@pytest.mark.parametrize(
    "planned",
    [plan(CPU), plan(NEURON), plan(OWN), plan(OWN, deployments=OPTIONS, args={"a": [1, {"b": None}]})],
    ids=["cpu", "neuron", "own", "options"],
)
def test_ray_reports_an_application_in_the_words_that_it_was_given(planned: ServicePlan) -> None:
    config = yaml.safe_load(planned.spec["serveConfigV2"])
    # As the controller keeps it (`apply_config` in ray/serve/_private/controller.py).
    kept = (
        ServeDeploySchema.model_validate(config).applications[0].model_dump(mode="json", exclude_unset=True)
    )
    running = {"status": "RUNNING", "deployments": {}, "deployed_app_config": kept}
    assert kept == planned.application
    missing = not_in_force(planned.application, running)
    assert missing is not None
    assert missing.startswith("waiting for the deployment ")


@pytest.mark.parametrize(
    "older",
    [
        {"args": {"slots": 4}},
        {"args": {"slots": 8, "since_removed": True}},
        {"import_path": "another:app"},
        {"deployments": [{"name": "Api", "num_replicas": 1}, {"name": "Engine", "num_replicas": 2}]},
        {"deployments": []},
    ],
)
def test_what_an_older_release_does_is_not_this_ones(older: dict[str, Any]) -> None:
    for status in ("RUNNING", "DEPLOY_FAILED"):
        world = World()
        deployed(world).update(status=status, deployed_app_config=APPLICATION | older)
        result = run(world, SOON)
        assert result.code == 1
        assert "waiting for Ray Serve to take up this release" in result.last_words


def test_a_release_that_cannot_start_fails_at_once_and_its_sentence_stands_alone() -> None:
    world = World()
    traceback = (
        "The deployment failed to start 3 times in a row. See controller logs for details. Error:\n"
        "\x1b[36mray::ServeReplica:chat:Engine.initialize_and_get_metadata()\x1b[39m (pid=7, ip=10.0.0.1)\n"
        '  File "/app/engine.py", line 7, in build\n'
        "    raise ModelError(sentence)\n"
        "serve_apps.model_files.ModelError: model 'x': no such directory; name one of the image"
    )
    deployed(world).update(
        status="DEPLOY_FAILED",
        message="Failed to update the deployments ['Engine'].",
        deployments={
            "Api": deployment(1, "RUNNING"),
            "Engine": deployment(1, status="DEPLOY_FAILED", message=traceback),
        },
    )
    result = run(world)
    assert result.code == 1
    sentence = "chat release r2: Engine: ModelError: model 'x': no such directory; name one of the image"
    assert result.last_words == sentence
    assert result.printed.splitlines()[-1] == sentence
    assert 'File "/app/engine.py", line 7' in result.printed


def test_what_two_deployments_say_is_said_once() -> None:
    world = World()
    failed = {name: deployment(1, status="DEPLOY_FAILED", message="No model.") for name in ("Engine", "Api")}
    deployed(world).update(status="DEPLOY_FAILED", deployments=failed)
    assert run(world).last_words == "chat release r2: Api, Engine: No model."


def test_a_builder_that_fails_is_told_as_well() -> None:
    world = World()
    report = (
        "Deploying app 'chat' failed with exception:\n"
        "Traceback (most recent call last):\n"
        '  File "/ray/serve.py", line 1, in build\n'
        "    import_attr(path)\n"
        "ModuleNotFoundError: No module named 'my_app'\n"
    )
    deployed(world).update(status="DEPLOY_FAILED", message=report, deployments={})
    assert run(world).last_words == "chat release r2: ModuleNotFoundError: No module named 'my_app'"


def test_a_spec_that_kuberay_refuses_fails_at_once() -> None:
    world = World()
    world.ray_service["status"]["conditions"] = [
        {"type": "Ready", "reason": "ValidationFailed", "message": "maxReplicas below minReplicas"}
    ]
    result = run(world)
    assert result.code == 1
    assert "KubeRay gave up: ValidationFailed: maxReplicas below minReplicas" in result.last_words


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ((500, {"error": {"message": "engine broke"}}), "HTTP 500"),
        ((200, {"usage": {"completion_tokens": 0}}), "holds no token"),
        ((200, {"usage": "many", "data": [7, {}]}), "holds no token"),
        ((200, ["not", "an", "object"]), "not a JSON object"),
    ],
)
def test_a_release_without_an_answer_does_not_pass(completion: Answer, reason: str) -> None:
    world = World()
    world.completion = completion
    result = run(world, SOON)
    assert result.code == 1
    assert reason in result.last_words


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"this is no HTTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nha",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
    ids=["closed", "no HTTP", "cut", "cut error", "cut chunk", "no UTF-8", "no object"],
)
def test_a_broken_answer_is_asked_for_again(garbage: bytes) -> None:
    world = World()
    paths = (RAY_SERVICE, DASHBOARD, "/health", COMPLETIONS, JOBS, f"{KUBERNETES}/pods")
    world.garbage = {path: [garbage] for path in paths}
    result = run(world)
    assert result.code == 0, result.printed
    assert not any(world.garbage.values())


def test_an_application_without_our_api_is_checked_by_serves_status() -> None:
    world = World()
    world.health = (404, {})
    result = run(world, {"model": ""})
    assert result.code == 0, result.printed
    assert "chat is RUNNING" in result.printed
    assert world.questions == []


def test_checks_that_an_interrupted_run_left_behind_are_removed_and_later_ones_are_not() -> None:
    world = World()
    world.jobs = [
        job("chat-check-0", "2026-11-28T09:00:00Z"),
        job("chat-check-1", "2026-11-28T10:00:00Z"),
        job("chat-check-2", "2026-11-28T10:00:00Z"),
        job("chat-check-3", "2026-11-28T10:00:01Z"),
    ]
    result = run(world)
    assert result.code == 0, result.printed
    assert sorted(world.deleted) == ["chat-check-0", "chat-check-1"]


@pytest.mark.parametrize("refused", [JOBS, f"{KUBERNETES}/pods", f"{JOBS}/chat-check-1"])
def test_a_right_that_is_missing_hides_nothing_else(refused: str) -> None:
    world = World()
    world.jobs.append(job("chat-check-1", "2026-11-28T09:00:00Z"))
    world.forbidden = {refused}
    polls = iter(range(100))
    world.health = (200, {"release": "r1"})
    world.on_poll = lambda: setattr(world, "health", (200, {"release": "r2"})) if next(polls) == 2 else None
    result = run(world)
    assert result.code == 0, result.printed


def test_a_termination_message_that_cannot_be_left_leaves_the_log() -> None:
    world = World()
    result = run(world, SOON | {"model": "smol", "release": "r3"}, TERMINATION_LOG="/proc/nowhere")
    assert result.code == 1
    assert "chat release r3: not ready after 0 s: the service still answers as release r2" in result.printed
