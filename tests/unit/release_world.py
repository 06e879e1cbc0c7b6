"""Kubernetes, Ray's dashboard and a service, as the release check's script sees them: real HTTP servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.http_server import serving
from workloads.release_check import script_files

APPLICATION = {
    "name": "chat",
    "import_path": "serve_apps.llm.app:build_app",
    "args": {"slots": 8},
    "runtime_env": {},
    "deployments": [{"name": "Api", "num_replicas": 1}, {"name": "Engine", "num_replicas": 1}],
}
EXPECTED = {
    "service": "chat",
    "release": "r2",
    "application": APPLICATION,
    "app": "llm",
    "model": "smol",
    "timeout_s": 30,
}
KUBERNETES = "/api/v1/namespaces/ns"
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
RAY_SERVICE = "/apis/ray.io/v1/namespaces/ns/rayservices/chat"
DASHBOARD = "/api/serve/applications/"
COMPLETIONS = "/v1/chat/completions"
Answer = tuple[int, Any]


def deployment(target: int, *states: str, status: str = "HEALTHY", message: str = "") -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "target_num_replicas": target,
        "deployment_config": {"num_replicas": target},
        "replicas": [{"state": state} for state in states],
    }


def job(name: str, created: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": created}}


class World:
    """What the servers answer; tests change it."""

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
        self.application: dict[str, Any] | None = {
            "status": "RUNNING",
            "message": "",
            "deployments": {"Api": deployment(1, "RUNNING"), "Engine": deployment(1, "RUNNING")},
            "deployed_app_config": APPLICATION,
        }
        self.pods: list[dict[str, Any]] = []
        # Sent once, to whoever watches pods.
        self.pod_events: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.logs: dict[str, str] = {}
        self.jobs: list[dict[str, Any]] = [job("chat-check-2", "2026-11-28T10:00:00Z")]
        self.health: Answer = (200, {"release": "r2"})
        self.completion: Answer = (200, {"usage": {"completion_tokens": 3}})
        self.questions: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.tokens: dict[str, str] = {}
        # Paths that are refused, and the bytes that a path is answered with before it works.
        self.forbidden: set[str] = set()
        self.garbage: dict[str, list[bytes]] = {}
        self.on_poll: Callable[[], None] = lambda: None

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
        if path in self.forbidden:
            return 403, {"message": f"not allowed: {path}"}
        if path == RAY_SERVICE:
            self.on_poll()
            return 200, self.ray_service
        if path.startswith(JOBS):
            if method == "DELETE":
                self.deleted.append(path.removeprefix(f"{JOBS}/"))
                return 404, {"reason": "NotFound"}
            return 200, {"items": self.jobs}
        if path.startswith(KUBERNETES):
            return self._kubernetes(path.removeprefix(KUBERNETES), query)
        if path == DASHBOARD:
            return 200, {"applications": {"chat": self.application} if self.application else {}}
        if path == "/health":
            return self.health
        self.questions.append(json.loads(body))
        return self.completion

    def _kubernetes(self, path: str, query: dict[str, list[str]]) -> Answer:
        if path == "/events":
            return 200, {"items": self.events}
        if path == "/pods" and "watch" in query:
            sent, self.pod_events = self.pod_events, []
            return 200, "".join(json.dumps(event) + "\n" for event in sent)
        if path == "/pods":
            return 200, {"metadata": {"resourceVersion": "1"}, "items": self.pods}
        name = path.split("/")[2]
        return (200, self.logs[name]) if name in self.logs else (404, {"message": f"no pod {name}"})


@contextmanager
def served(world: World) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            world.tokens[url.path] = self.headers.get("Authorization", "")
            if garbage := world.garbage.get(url.path):
                self.wfile.write(garbage.pop(0))
                self.close_connection = True
                return
            status, value = world.answer(self.command, url.path, parse_qs(url.query), body)
            data = (value if isinstance(value, str) else json.dumps(value)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as url:
        yield url


@dataclass
class Result:
    """How the script ended: its exit code, what it printed, and what Kubernetes keeps as its last words."""

    code: int
    printed: str
    last_words: str


def run(world: World, expected: dict[str, Any] | None = None, **env: str) -> Result:
    """The script, run as the Job runs it; `expected` replaces what the test world expects."""
    with served(world) as url, tempfile.TemporaryDirectory() as directory:
        for path, text in script_files().items():
            file = Path(directory, path)
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        wanted = Path(directory, "expected.json")
        wanted.write_text(json.dumps(EXPECTED | (expected or {})))
        termination_log = Path(directory, "termination-log")
        ended = subprocess.run(
            [sys.executable, "-m", "release_check_script"],
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "NAMESPACE": "ns",
                "JOB": "chat-check-2",
                "EXPECTED": str(wanted),
                "TERMINATION_LOG": str(termination_log),
                "RAY_AUTH_TOKEN": "ray-token",
                "KUBERNETES_URL": url,
                "SERVICE_URL": url,
                "DASHBOARD_URL": url,
                "POLL_S": "0.05",
                "SURE_AFTER_S": "0.1",
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        words = termination_log.read_text() if termination_log.exists() else ""
    return Result(ended.returncode, ended.stdout, words)
