"""The Kubernetes API, as the pod's service account may use it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .calls import CALL_TIMEOUT_S, CallError, answer, get_json

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOG_LINES = 20


class Kubernetes:
    """Objects of one namespace. Every method raises `CallError`."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace

    def get(self, path: str, api: str = "api/v1", **query: str) -> dict[str, Any]:
        """The object or list at a path below the namespace."""
        return get_json(self._at(api, path, query), **self._access())

    def delete(self, path: str, api: str) -> None:
        """Delete an object and what it owns; one that is gone already is no error."""
        url = self._at(api, path, {"propagationPolicy": "Background"})
        try:
            get_json(url, method="DELETE", **self._access())
        except CallError as error:
            if not str(error).startswith("HTTP 404"):
                raise

    def watch(self, path: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Events of a list after a resource version, as they come, for so many seconds."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        timeout_s = seconds + CALL_TIMEOUT_S
        with answer(self._at("api/v1", path, query), timeout_s=timeout_s, **self._access()) as lines:
            for line in lines:
                yield json.loads(line)

    def last_line(self, pod: str, container: str, *, previous: bool) -> str:
        """The last line that a container wrote, or its run before this one."""
        query = {"container": container, "tailLines": str(_LOG_LINES), "previous": str(previous).lower()}
        with answer(self._at("api/v1", f"pods/{pod}/log", query), **self._access()) as response:
            lines = response.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _at(self, api: str, path: str, query: Mapping[str, str]) -> str:
        return f"{self._url}/{api}/namespaces/{self._namespace}/{path}?{urlencode(query)}"

    def _access(self) -> dict[str, Any]:
        if not self._url.startswith("https:"):
            return {}
        # Read anew each time: Kubernetes exchanges the token while the pod lives.
        try:
            token = (_ACCOUNT / "token").read_text(encoding="utf-8").strip()
            return {"token": token, "context": ssl.create_default_context(cafile=_ACCOUNT / "ca.crt")}
        except OSError as error:
            raise CallError(f"the service account cannot be read: {error}") from None
