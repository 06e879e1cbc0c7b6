"""The keeper of disruption budgets, as its pod runs it, against a real HTTP server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.http_server import serving
from tests.waiting import wait_until
from workloads import disruption_budgets_script as script

BUDGETS = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets"


class World:
    """RayClusters and budgets of a namespace as the Kubernetes API shows them; tests change them."""

    def __init__(self, **desired: int) -> None:
        self.clusters = {name: ray_cluster(name, workers) for name, workers in desired.items()}
        self.budgets: dict[str, dict[str, Any]] = {}
        self.patches: list[str] = []
        self.looks = 0
        self.refusal: tuple[int, Any] | None = None
        self.dribbles = False

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.looks += method == "GET"
        if self.refusal:
            return self.refusal
        if path == "/apis/ray.io/v1/namespaces/ns/rayclusters":
            return 200, {"items": list(self.clusters.values())}
        if method == "GET":
            assert path == BUDGETS
            return 200, {"items": list(self.budgets.values())}
        self.patches.append(path)
        wanted = json.loads(body)
        name = wanted["metadata"]["name"]
        self.budgets[name] = {"status": self.budgets.get(name, {}).get("status", {})} | wanted
        return 200, self.budgets[name]

    def desire(self, name: str, workers: int) -> None:
        self.clusters[name] = ray_cluster(name, workers)

    def is_ready(self, name: str, workers: int) -> None:
        self.budgets[f"{name}-workers"]["status"] = {"currentHealthy": workers}

    def min_available(self, name: str) -> int:
        return self.budgets[f"{name}-workers"]["spec"]["minAvailable"]


def ray_cluster(name: str, workers: int) -> dict[str, Any]:
    # The operator leaves out a zero.
    status = {"desiredWorkerReplicas": workers} if workers else {}
    return {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "status": status}


@contextmanager
def served(world: World) -> Iterator[str]:
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if world.dribbles:
                self._dribble()
                return
            status, value = world.answer(self.command, self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _dribble(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not over.wait(0.05):
                self.wfile.write(b" ")

        do_GET = do_PATCH = _answer  # noqa: N815 - names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as url:
        try:
            yield url
        finally:
            over.set()


@pytest.fixture
def world() -> World:
    return World(chat=2)


@pytest.fixture
def keeper(world: World) -> Iterator[script.Keeper]:
    with served(world) as url:
        yield script.Keeper("ns", script.api(url))


@contextmanager
def running(world: World, **env: str) -> Iterator[subprocess.Popen[str]]:
    with served(world) as url:
        process = subprocess.Popen(
            [sys.executable, "-I", script.__file__],
            env={
                "PATH": os.environ["PATH"],
                "NAMESPACE": "ns",
                "KUBERNETES_URL": url,
                "POLL_S": "0.05",
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("desired", "held", "healthy", "expected"),
    [
        pytest.param(3, 0, 0, 0, id="before the first worker serves, none is held"),
        pytest.param(2, 0, 2, 1, id="of two that serve, one may go"),
        pytest.param(2, 1, 1, 1, id="one that has gone does not license the next"),
        pytest.param(3, 1, 1, 1, id="neither does one that was asked for in its place"),
        pytest.param(3, 1, 2, 1, id="one that no replica needs holds no other"),
        pytest.param(5, 1, 5, 4, id="of five that serve after a scale-up, one may go"),
        pytest.param(2, 4, 4, 1, id="after a scale-down only those that are desired count"),
        pytest.param(1, 1, 2, 0, id="a single worker is not held"),
        pytest.param(0, 1, 0, 0, id="a suspended cluster holds nothing"),
    ],
)
def test_one_worker_less_than_those_that_serve_must_stay(
    desired: int, held: int, healthy: int, expected: int
) -> None:
    assert script.min_available(desired, held, healthy) == expected


def test_a_budget_is_for_the_workers_of_one_cluster_and_goes_with_it(
    world: World, keeper: script.Keeper
) -> None:
    keeper.step()
    (budget,) = world.budgets.values()
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "chat", "uid": "uid-of-chat"}
    assert budget["metadata"]["ownerReferences"] == [owner]
    labels = {"ray.io/cluster": "chat", "ray.io/node-type": "worker"}
    assert budget["spec"]["selector"] == {"matchLabels": labels}
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert world.patches == [f"{BUDGETS}/chat-workers?fieldManager=disruption-budgets&force=true"]


def test_budgets_follow_the_workers_up_and_down(world: World, keeper: script.Keeper) -> None:
    assert keeper.step() == ["chat-workers: minAvailable none -> 0"]
    world.is_ready("chat", 2)
    assert keeper.step() == ["chat-workers: minAvailable 0 -> 1"]
    world.desire("chat", 1)
    assert keeper.step() == ["chat-workers: minAvailable 1 -> 0"]


def test_clusters_of_an_upgrade_do_not_count_for_each_other(world: World, keeper: script.Keeper) -> None:
    keeper.step()
    world.is_ready("chat", 2)
    world.desire("next", 2)
    keeper.step()
    assert (world.min_available("chat"), world.min_available("next")) == (1, 0)
    world.is_ready("next", 2)
    keeper.step()
    assert (world.min_available("chat"), world.min_available("next")) == (1, 1)


def test_nothing_is_written_where_nothing_changed(world: World, keeper: script.Keeper) -> None:
    keeper.step()
    assert keeper.step() == []
    assert len(world.patches) == 1


def test_a_budget_that_somebody_else_changed_is_put_right(world: World, keeper: script.Keeper) -> None:
    keeper.step()
    world.is_ready("chat", 2)
    keeper.step()
    world.budgets["chat-workers"]["spec"] |= {"minAvailable": 0, "unhealthyPodEvictionPolicy": None}
    keeper.step()
    assert world.min_available("chat") == 1
    assert world.budgets["chat-workers"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_cluster_that_is_being_deleted_gets_no_budget(world: World, keeper: script.Keeper) -> None:
    world.clusters["chat"]["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    assert keeper.step() == []
    assert world.patches == []


def test_an_api_that_refuses_is_told_of_once_and_asked_again(world: World) -> None:
    world.refusal = (403, {"kind": "Status", "message": "budgets are forbidden"})
    with running(world) as process:
        wait_until(lambda: world.looks >= 3, "a third look")
        world.refusal = None
        assert process.stdout
        assert process.stdout.readline() == "the Kubernetes API does its part again\n"
        assert process.stdout.readline() == "chat-workers: minAvailable none -> 0\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert err == f"budgets stay as they are: HTTP 403 for GET {BUDGETS}: budgets are forbidden\n"


def test_an_answer_of_something_else_is_shown_by_its_beginning(world: World) -> None:
    world.refusal = (502, "Bad Gateway " * 100)
    with served(world) as url, pytest.raises(OSError, match=r"HTTP 502 .*Bad Gateway") as caught:
        script.Keeper("ns", script.api(url)).step()
    assert len(str(caught.value)) < 400


def test_it_ends_at_once_when_it_is_asked_to(world: World) -> None:
    with running(world, POLL_S="600") as process:
        wait_until(lambda: world.looks, "a first look")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_look_that_never_ends_ends_the_process_and_is_told_of(world: World) -> None:
    world.dribbles = True
    with running(world, STUCK_S="1") as process:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "Timeout" in err
    assert "in step" in err
