"""The release check's script, run as the Job runs it, against real HTTP servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workloads import release_check_script as script

EXPECTED = {"import_path": "serve_apps.llm.app:build_app", "args": {"slots": 8}, "runtime_env": {}}
Answer = tuple[int, Any]


class World:
    """Kubernetes, the Ray dashboard and the service as the script sees them; tests change it."""

    def __init__(self) -> None:
        self.ray_service: dict[str, Any] = {
            "metadata": {"generation": 2},
            "status": {
                "observedGeneration": 2,
                "activeServiceStatus": {
                    "rayClusterName": "chat-abcde",
                    "rayClusterStatus": {"head": {"serviceName": "chat-abcde-head-svc"}},
                },
            },
        }
        self.pods: list[dict[str, Any]] = []
        self.application: dict[str, Any] | None = {
            "status": "RUNNING",
            "message": "",
            "deployments": {},
            # Ray adds defaults to what it was given.
            "deployed_app_config": EXPECTED | {"route_prefix": "/"},
        }
        self.health: Answer = (200, {"release": "r2"})
        self.completion: Answer = (200, {"usage": {"completion_tokens": 3}})
        self.questions: list[dict[str, Any]] = []
        self.tokens: dict[str, str] = {}
        self.on_poll: Callable[[], None] = lambda: None

    def answer(self, path: str, body: bytes, token: str) -> Answer:
        self.tokens[path] = token
        if path == "/apis/ray.io/v1/namespaces/ns/rayservices/chat":
            self.on_poll()
            return 200, self.ray_service
        if path == "/api/v1/namespaces/ns/pods":
            return 200, {"items": self.pods}
        if path == "/api/serve/applications/":
            return 200, {"applications": {"chat": self.application} if self.application else {}}
        if path == "/health":
            return self.health
        self.questions.append(json.loads(body))
        return self.completion


@contextmanager
def served(world: World) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = world.answer(self.path, body, self.headers.get("Authorization", ""))
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer  # noqa: N815 - names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(world: World, **env: str) -> subprocess.CompletedProcess[str]:
    with served(world) as url:
        return subprocess.run(
            [sys.executable, "-I", script.__file__],
            env={
                "PATH": os.environ["PATH"],
                "RAY_SERVICE": "chat",
                "NAMESPACE": "ns",
                "RELEASE": "r2",
                "EXPECTED_APPLICATION": json.dumps(EXPECTED),
                "APP": "llm",
                "MODEL": "smol",
                "TIMEOUT_S": "30",
                "RAY_AUTH_TOKEN": "ray-token",
                "KUBERNETES_URL": url,
                "SERVICE_URL": url,
                "DASHBOARD_URL": url,
                "POLL_S": "0.05",
                **env,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.strip().splitlines()[-1]


def test_a_release_that_answers_passes() -> None:
    world = World()
    result = run(world)
    assert result.returncode == 0, result.stderr
    assert "chat release r2 answered a question with 3 tokens" in result.stdout
    assert world.questions[0]["model"] == "smol"
    assert world.tokens["/api/serve/applications/"] == "Bearer ray-token"


def test_the_question_carries_the_first_api_key(tmp_path: Path) -> None:
    world = World()
    keys = tmp_path / "keys"
    keys.write_text("\nfirst-key\nsecond-key\n")
    assert run(world, API_KEYS_FILE=str(keys)).returncode == 0
    assert world.tokens["/v1/chat/completions"] == "Bearer first-key"


def test_it_waits_through_a_roll_out() -> None:
    world = World()
    world.ray_service["status"]["observedGeneration"] = 1
    world.health = (200, {"release": "r1"})
    assert world.application is not None
    world.application["status"] = "DEPLOYING"
    changes = iter(
        [
            lambda: world.ray_service["status"].update(observedGeneration=2),
            lambda: world.application and world.application.update(status="RUNNING"),
            lambda: setattr(world, "health", (200, {"release": "r2"})),
        ]
    )
    world.on_poll = lambda: next(changes, lambda: None)()
    result = run(world)
    assert result.returncode == 0, result.stderr
    assert "Ray Serve is DEPLOYING" in result.stdout
    assert "the service still answers as release r1" in result.stdout


def test_a_new_cluster_is_watched_until_traffic_has_moved() -> None:
    world = World()
    status = world.ray_service["status"]
    status["pendingServiceStatus"] = {"rayClusterName": "chat-fghij"}
    polls = iter(range(100))
    world.on_poll = lambda: status.update(pendingServiceStatus={}) if next(polls) == 2 else None
    result = run(world)
    assert result.returncode == 0, result.stderr
    assert "waiting for traffic to move to it" in result.stdout


def test_a_release_that_cannot_start_fails_at_once_with_the_applications_own_words() -> None:
    world = World()
    assert world.application is not None
    world.application |= {
        "status": "DEPLOY_FAILED",
        "deployments": {
            "Api": {"status": "HEALTHY", "message": ""},
            "Engine": {"status": "DEPLOY_FAILED", "message": "ModelError: no such repository"},
        },
    }
    result = run(world)
    assert result.returncode == 1
    assert last_line(result) == (
        "[release check] chat release r2: Ray Serve: Engine DEPLOY_FAILED: ModelError: no such repository"
    )


def test_the_failure_of_an_older_release_is_not_this_ones() -> None:
    world = World()
    assert world.application is not None
    world.application |= {"status": "DEPLOY_FAILED", "deployed_app_config": EXPECTED | {"args": {"slots": 4}}}
    result = run(world, TIMEOUT_S="0.3")
    assert result.returncode == 1
    assert "waiting for Ray Serve to take up this release" in last_line(result)


def test_a_missing_node_is_named() -> None:
    world = World()
    world.application = None
    world.ray_service["status"]["pendingServiceStatus"] = {"rayClusterName": "chat-fghij"}
    world.pods = [
        {
            "metadata": {"name": "worker-1"},
            "status": {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient aws.amazon.com/neuron",
                    }
                ]
            },
        },
        {
            "metadata": {"name": "worker-2"},
            "status": {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
                ]
            },
        },
    ]
    # A Ray head that does not answer, as while its pod waits for a node.
    result = run(world, TIMEOUT_S="0.3", DASHBOARD_URL="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "pod worker-1 cannot be scheduled: 0/3 nodes are available" in last_line(result)
    assert "pod worker-2: ImagePullBackOff: no such image" in last_line(result)


def test_a_spec_that_kuberay_refuses_fails_at_once() -> None:
    world = World()
    world.ray_service["status"]["conditions"] = [
        {"type": "Ready", "reason": "ValidationFailed", "message": "maxReplicas below minReplicas"}
    ]
    result = run(world)
    assert result.returncode == 1
    assert "KubeRay gave up: ValidationFailed: maxReplicas below minReplicas" in last_line(result)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ((500, {"error": {"message": "engine broke"}}), "HTTP 500"),
        ((200, {"usage": {"completion_tokens": 0}}), "holds no token"),
        ((200, ["not", "an", "object"]), "not a JSON object"),
    ],
)
def test_a_release_without_an_answer_does_not_pass(completion: Answer, reason: str) -> None:
    world = World()
    world.completion = completion
    result = run(world, TIMEOUT_S="0.3")
    assert result.returncode == 1
    assert reason in last_line(result)


def test_an_application_without_our_api_is_checked_by_serves_status() -> None:
    world = World()
    world.health = (404, {})
    result = run(world, MODEL="")
    assert result.returncode == 0, result.stderr
    assert "chat is RUNNING" in result.stdout
    assert world.questions == []


@pytest.mark.parametrize(
    ("expected", "deployed", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": [1]}}, {"a": {"b": [1], "c": 0}}, True),
        ({"a": {}}, {}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, None, False),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, False),
    ],
)
def test_deployed_settings_match_if_all_expected_ones_are_there(
    expected: Any, deployed: Any, same: bool
) -> None:
    assert script.matches(expected, deployed) is same
