"""The probes of a Ray node, and the script by which a head outlives its workers, run as they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ray._private import services

from infra.grace_periods import PROXY_DRAIN_S
from tests.http_server import serving
from workloads import head_pre_stop_script
from workloads.node_lifecycle import VITAL_PROCESSES, probe_script, probes
from workloads.serve_config import SERVE_PORT

ALONE: dict[str, Any] = {"metadata": {"name": "chat-abcde"}}
DELETED: dict[str, Any] = {"metadata": {"name": "chat-abcde", "deletionTimestamp": "2026-11-28T12:00:00Z"}}


class World:
    """Kubernetes and Ray's dashboard as the head sees them; tests change it."""

    def __init__(self, status: int = 200, cluster: dict[str, Any] | None = None, workers: int = 1) -> None:
        self.cluster = status, cluster or {}
        self.workers = workers
        self.asked: list[tuple[str, str]] = []

    def answer(self, path: str, token: str) -> tuple[int, Any]:
        self.asked.append((path.partition("?")[0], token))
        if path.startswith("/apis/"):
            return self.cluster
        nodes = [{"is_head_node": True}, *[{"is_head_node": False}] * self.workers]
        self.workers = max(0, self.workers - 1)
        return 200, {"data": {"result": {"result": nodes}}}


@contextmanager
def served(world: World) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, value = world.answer(self.path, self.headers.get("Authorization", ""))
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as url:
        yield url


def pre_stop(world: World, directory: Path, patience_s: float = 60) -> list[str]:
    """Run the hook; the paths that it asked for."""
    for name, text in (("namespace", "ns"), ("token", "kubernetes-token\n"), ("ca.crt", "")):
        (directory / name).write_text(text)
    with served(world) as url:
        environment = {
            "RAY_CLUSTER_NAME": "chat-abcde",
            "RAY_AUTH_TOKEN": "ray-token",
            "SERVICE_ACCOUNT": str(directory),
            "KUBERNETES_URL": url,
            "DASHBOARD_URL": url,
        }
        head_pre_stop_script.main(patience_s, environment)
    return [path for path, _ in world.asked]


CLUSTER_PATH = "/apis/ray.io/v1/namespaces/ns/rayclusters/chat-abcde"


def test_a_head_that_goes_alone_does_not_wait(tmp_path: Path) -> None:
    world = World(cluster=ALONE)
    assert pre_stop(world, tmp_path) == [CLUSTER_PATH]
    assert world.asked == [(CLUSTER_PATH, "Bearer kubernetes-token")]


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, DELETED), (401, {}), (403, {}), (404, {})],
    ids=["being deleted", "account gone", "role gone", "cluster gone"],
)
def test_the_head_of_a_deleted_cluster_stays_until_its_workers_have_ended(
    status: int, answer: dict[str, Any], tmp_path: Path
) -> None:
    world = World(status, answer, workers=2)
    assert pre_stop(world, tmp_path) == [CLUSTER_PATH, *["/api/v0/nodes"] * 3]
    assert world.asked[-1][1] == "Bearer ray-token"


def test_a_head_whose_workers_do_not_end_goes_when_its_time_is_over(tmp_path: Path) -> None:
    world = World(cluster=DELETED, workers=10**6)
    assert len(pre_stop(world, tmp_path, patience_s=1.0)) <= 4


def test_a_head_that_cannot_see_its_cluster_does_not_wait(tmp_path: Path) -> None:
    assert pre_stop(World(500, {}), tmp_path) == [CLUSTER_PATH]


ANSWERS, SILENT = "exit 0", "exit 4"


class Node:
    """A program with a name that nothing else here has, and a `wget` that does as it is told."""

    name = f"vital-{os.getpid()}"

    def __init__(self, directory: Path, health: str) -> None:
        self._program = directory / self.name
        shutil.copy(shutil.which("sleep") or "", self._program)
        wget = directory / "wget"
        wget.write_text(f"#!/bin/bash\n{health}\n")
        wget.chmod(0o755)
        self._path = f"{directory}:{os.environ['PATH']}"

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self._program, "600"])

    def probe(self, patience_s: int = 600) -> subprocess.Popen[str]:
        command = ["bash", "-c", probe_script([self.name], patience_s)]
        env = {**os.environ, "PATH": self._path}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def words(probe: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = probe.communicate(timeout=60)
    return probe.returncode, output.strip()


def test_a_node_lives_while_its_processes_do_and_ray_answers(tmp_path: Path) -> None:
    node = Node(tmp_path, ANSWERS)
    with node.start() as process:
        assert words(node.probe()) == (0, "")
        process.kill()


def test_a_node_without_its_process_is_dead_at_once(tmp_path: Path) -> None:
    node = Node(tmp_path, ANSWERS)
    assert words(node.probe()) == (1, f"no {node.name} runs here")


def test_a_process_that_is_dead_and_not_yet_buried_does_not_count(tmp_path: Path) -> None:
    node = Node(tmp_path, ANSWERS)
    with node.start() as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        assert words(node.probe()) == (1, f"no {node.name} runs here")


def test_a_node_that_stands_still_has_its_time(tmp_path: Path) -> None:
    node = Node(tmp_path, SILENT)
    with node.start() as process:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert words(node.probe(patience_s=3)) == (1, "Ray does not answer")
        assert time.monotonic() - began >= 2  # whole seconds, as bash counts them
        process.kill()


def test_a_node_that_dies_while_it_is_waited_for_is_dead_at_once(tmp_path: Path) -> None:
    node = Node(tmp_path, SILENT)
    with node.start() as process:
        probe = node.probe()
        assert probe.poll() is None
        process.kill()
        process.wait()
        assert words(probe) == (1, f"no {node.name} runs here")


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_dead_node_is_noticed_within_half_a_minute_and_a_silent_one_after_ten(role: str) -> None:
    liveness, start = probes(role)["livenessProbe"], probes(role)["startupProbe"]
    looks, period_s = liveness["failureThreshold"], liveness["periodSeconds"]
    assert looks * period_s + liveness["terminationGracePeriodSeconds"] <= 30
    # One look waits for its share of the ten minutes, and is not cut off before.
    script = liveness["exec"]["command"][-1]
    assert probe_script(VITAL_PROCESSES[role], 600 // looks) == script
    assert liveness["timeoutSeconds"] > 600 // looks
    assert start["failureThreshold"] * start["periodSeconds"] >= 600


def test_a_worker_is_ready_while_its_proxy_takes_requests_and_a_head_when_kuberay_says_so() -> None:
    assert "readinessProbe" not in probes("head")
    ready = probes("worker")["readinessProbe"]
    assert ready["httpGet"] == {"path": "/-/healthz", "port": SERVE_PORT}
    # A proxy that drains is out of its Service before it stops taking requests.
    assert ready["failureThreshold"] == 1
    assert ready["periodSeconds"] < PROXY_DRAIN_S / 2


def test_ray_starts_a_node_with_these_processes() -> None:
    assert Path(services.RAYLET_EXECUTABLE).name in VITAL_PROCESSES["worker"]
    assert Path(services.GCS_SERVER_EXECUTABLE).name in VITAL_PROCESSES["head"]
    # The kernel cuts names off.
    assert all(len(name) <= 15 for names in VITAL_PROCESSES.values() for name in names)
