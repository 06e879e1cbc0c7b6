"""The Kubernetes API as JSON, through `kubectl proxy`, which knows every way to log in."""

from __future__ import annotations

import re
import subprocess
from types import TracebackType
from typing import Any

import httpx

Object = dict[str, Any]

# Where the API has the kinds that the tests look at.
_PATHS = {
    "Namespace": "api/v1",
    "Pod": "api/v1",
    "Service": "api/v1",
    "Secret": "api/v1",
    "Deployment": "apis/apps/v1",
    "Job": "apis/batch/v1",
    "NetworkPolicy": "apis/networking.k8s.io/v1",
    "PodDisruptionBudget": "apis/policy/v1",
    "RayService": "apis/ray.io/v1",
    "RayCluster": "apis/ray.io/v1",
}
_PLURALS = {"NetworkPolicy": "networkpolicies"}
# An API server that shares two cores with everything else.
_TIMEOUT_S = 120


class Kubernetes:
    """A cluster. A context manager: its proxy ends with it."""

    def __enter__(self) -> Kubernetes:
        self._proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout
        said = self._proxy.stdout.readline()
        address = re.search(r"127\.0\.0\.1:\d+", said)
        assert address, f"kubectl proxy does not say where it listens: {said!r}"
        self._http = httpx.Client(base_url=f"http://{address[0]}", timeout=_TIMEOUT_S, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._proxy.terminate()
        self._proxy.wait()

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, None if there is none."""
        answer = self._http.get(_path(kind, namespace, name))
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()

    def all(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Object]:
        """Objects with the labels, in one namespace or everywhere; none where the kind is unknown."""
        answer = self._http.get(_path(kind, namespace), params={"labelSelector": labels})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        return answer.raise_for_status().json()["items"]

    def create(self, made: Object) -> None:
        """Make an object of a namespace; one that exists stays as it is."""
        answer = self._http.post(_path(made["kind"], made["metadata"]["namespace"]), json=made)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def delete_pod(self, pod: Object, *, grace_s: int | None = None) -> None:
        """Delete as `kubectl delete pod` does; at once, like the loss of its node, with `grace_s` 0."""
        params = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self._http.delete(_path_of(pod), params=params).raise_for_status()

    def evict(self, pod: Object) -> str | None:
        """Ask for the pod to go, as `kubectl drain` does; None if it goes, or why it may not yet."""
        metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        answer = self._http.post(f"{_path_of(pod)}/eviction", json=body)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return answer.json()["message"]
        answer.raise_for_status()
        return None

    def ask_pod(self, pod: Object, port: int, path: str, headers: dict[str, str]) -> Object:
        """The JSON that a pod answers to a GET, by way of the API server."""
        answer = self._http.get(f"{_path_of(pod)}:{port}/proxy{path}", headers=headers)
        return answer.raise_for_status().json()

    def version(self) -> str:
        """Of the API server, like v1.35.3."""
        return self._http.get("/version").raise_for_status().json()["gitVersion"]


def is_ready(pod: Object) -> bool:
    """Whether the pod takes requests, and is to stay."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _path_of(found: Object) -> str:
    return _path("Pod", found["metadata"]["namespace"], found["metadata"]["name"])


def _path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"/{_PATHS[kind]}{inside}/{plural}" + (f"/{name}" if name else "")
