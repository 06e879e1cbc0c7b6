"""A Kubernetes API server over HTTP, as far as the program talks to one; it stands in for a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.http_server import serving

VERSION = "v1.35.3"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Kinds that the server knows: `name` is the plural.
KINDS: dict[str, list[dict[str, Any]]] = {
    "/api/v1": [
        {"kind": "Namespace", "name": "namespaces", "namespaced": False},
        {"kind": "Secret", "name": "secrets", "namespaced": True},
        {"kind": "ConfigMap", "name": "configmaps", "namespaced": True},
    ],
    "/apis/ray.io/v1": [
        {"kind": "RayService", "name": "rayservices", "namespaced": True},
        {"kind": "RayService", "name": "rayservices/status", "namespaced": True},
    ],
}


class ApiServer:
    """`objects` by path; `forbidden` are plurals that nobody may write; `status` is the answer to everything.

    A path in `goes_after` counts how often it is still answered before it is gone. `asked` are the requests.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/version": {"gitVersion": VERSION}}
        self.objects |= {path: {"resources": kinds} for path, kinds in KINDS.items()}
        self.forbidden: set[str] = set()
        self.goes_after: dict[str, int] = {}
        self.status: int | None = None
        self.silent = False
        self.ended = threading.Event()
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and object of a request."""
        self.asked.append(f"{method} {path}")
        if self.silent:
            self.ended.wait()
        if self.status:
            return self.status, {"message": "as the test says"}
        if path == REVIEWS:
            wanted = body["spec"]["resourceAttributes"]
            denied = wanted["resource"] in self.forbidden and wanted["verb"] not in ("get", "list", "watch")
            return 201, {"status": {"allowed": not denied}}
        if path in self.goes_after:
            self.goes_after[path] -= 1
            if self.goes_after[path] < 0:
                self.objects.pop(path, None)
        found = self.objects.pop(path, None) if method == "DELETE" else self.objects.get(path)
        return (200, found) if found else (404, {"message": "not found"})

    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig whose current context `test` is this server."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": "token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }

    def write_kubeconfig(self, path: Path) -> Path:
        path.write_text(json.dumps(self.kubeconfig()))
        return path


@contextmanager
def api_server() -> Generator[ApiServer]:
    """A server on a free port of this machine, until the context is left."""
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            status, answer = server.answer(self.command, path, body)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the protocol

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the requests are in `asked`."""

    with serving(Handler) as server.url:
        try:
            yield server
        finally:
            server.ended.set()
