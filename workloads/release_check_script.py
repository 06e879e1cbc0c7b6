"""Waits until one release of a RayService answers, or says why it does not.

Runs alone in a pod: the standard library only, nothing of this project. `workloads/release_check.py` puts it
into a ConfigMap and describes the environment it is given. Its last line is what `pulumi up` shows.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

CALL_TIMEOUT_S = 10.0
# The first answer of a release may still warm something up.
ANSWER_TIMEOUT_S = 120.0
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# One small question for every app with a model: route and body.
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0},
    ),
    "embeddings": ("/v1/embeddings", {"input": "Hello."}),
    "stable-diffusion": ("/v1/images/generations", {"prompt": "A red square.", "steps": 1}),
}


class ReleaseError(Exception):
    """The release cannot come up; waiting longer would not help."""


class Check:
    """One release of one RayService, seen through Kubernetes, Ray and the service itself."""

    def __init__(self, env: Any) -> None:
        self.name = env["RAY_SERVICE"]
        self.namespace = env["NAMESPACE"]
        self.release = env["RELEASE"]
        # What Ray must report as deployed: import path, arguments, runtime environment.
        self.expected = json.loads(env["EXPECTED_APPLICATION"])
        self.app = env.get("APP", "")
        # Name of the model to ask, empty for applications without our API.
        self.model = env.get("MODEL", "")
        self.kubernetes_url = env.get("KUBERNETES_URL", "https://kubernetes.default.svc")
        self.service_url = env.get("SERVICE_URL", f"http://{self.name}-serve-svc.{self.namespace}.svc:8000")
        self.dashboard_url = env.get("DASHBOARD_URL", f"http://{{head}}.{self.namespace}.svc:8265")
        self.ray_token = env.get("RAY_AUTH_TOKEN", "")
        self.api_key_file = env.get("API_KEYS_FILE", "")
        self.timeout_s = float(env["TIMEOUT_S"])
        self.poll_s = float(env.get("POLL_S", "3"))

    def run(self) -> str:
        """Wait for the release. Returns what was seen; raises `ReleaseError` with the reason."""
        deadline = time.monotonic() + self.timeout_s
        last = ""
        while True:
            state = self._step()
            if state is None:
                try:
                    return self._ask()
                except OSError as error:
                    state = f"the release runs but did not answer a question: {error}"
            if state != last:
                print(state, flush=True)
                last = state
            if time.monotonic() > deadline:
                raise ReleaseError(f"not ready after {self.timeout_s:.0f} s: {last}")
            time.sleep(self.poll_s)

    def _step(self) -> str | None:
        """None if the release serves, otherwise what it waits for. Raises `ReleaseError` if it is in vain."""
        try:
            resource = self._kubernetes(
                f"/apis/ray.io/v1/namespaces/{self.namespace}/rayservices/{self.name}"
            )
        except OSError as error:
            return f"the Kubernetes API does not answer: {error}"
        status = resource.get("status") or {}
        self._raise_if_refused(status)
        generation = (resource.get("metadata") or {}).get("generation", 0)
        if status.get("observedGeneration", 0) < generation:
            return "waiting for the KubeRay operator to take up the change"
        pending = status.get("pendingServiceStatus") or {}
        target = pending if pending.get("rayClusterName") else status.get("activeServiceStatus") or {}
        if not target.get("rayClusterName"):
            return "waiting for a Ray cluster"
        waiting = self._serve_state(target)
        if waiting is None and target is pending:
            waiting = "the new Ray cluster serves; waiting for traffic to move to it"
        return waiting or self._release_state()

    def _raise_if_refused(self, status: dict[str, Any]) -> None:
        for condition in status.get("conditions") or []:
            if condition.get("reason") in ("ValidationFailed", "InitializingTimeout"):
                raise ReleaseError(f"KubeRay gave up: {condition['reason']}: {condition.get('message', '')}")

    def _serve_state(self, cluster: dict[str, Any]) -> str | None:
        head = ((cluster.get("rayClusterStatus") or {}).get("head") or {}).get("serviceName")
        head = head or f"{cluster['rayClusterName']}-head-svc"
        try:
            serve = get_json(
                self.dashboard_url.format(head=head) + "/api/serve/applications/", token=self.ray_token
            )
        except OSError:
            return f"waiting for the Ray head of {cluster['rayClusterName']}{self._pod_troubles()}"
        application = (serve.get("applications") or {}).get(self.name)
        if application is None or not matches(self.expected, application.get("deployed_app_config")):
            return "waiting for Ray Serve to take up this release"
        if application["status"] == "RUNNING":
            return None
        if application["status"] == "DEPLOY_FAILED":
            raise ReleaseError(f"Ray Serve: {own_words(application)}")
        return f"Ray Serve is {application['status']}: {own_words(application)}{self._pod_troubles()}"

    def _release_state(self) -> str | None:
        if not self.model:
            return None
        try:
            health = get_json(self.service_url + "/health")
        except OSError as error:
            return f"waiting for the service to answer: {error}"
        if health.get("release") != self.release:
            return f"the service still answers as release {health.get('release')}"
        return None

    def _ask(self) -> str:
        if not self.model:
            return f"{self.name} is RUNNING"
        route, question = QUESTIONS[self.app]
        answer = get_json(
            self.service_url + route,
            token=self._api_key(),
            body={"model": self.model, **question},
            timeout_s=ANSWER_TIMEOUT_S,
        )
        return f"{self.name} release {self.release} answered a question with {evidence(answer)}"

    def _api_key(self) -> str:
        if not self.api_key_file:
            return ""
        with open(self.api_key_file, encoding="utf-8") as lines:  # noqa: PTH123 - one import less in a script
            return next(line.strip() for line in lines if line.strip())

    def _pod_troubles(self) -> str:
        """Why pods do not run (no capacity, no image), from their own status."""
        try:
            pods = self._kubernetes(f"/api/v1/namespaces/{self.namespace}/pods")
        except OSError:
            return ""
        troubles = sorted({trouble for pod in pods.get("items") or [] for trouble in pod_troubles(pod)})
        return "; " + "; ".join(troubles) if troubles else ""

    def _kubernetes(self, path: str) -> dict[str, Any]:
        token, context = "", None
        if self.kubernetes_url.startswith("https:"):
            with open(f"{ACCOUNT}/token", encoding="utf-8") as file:  # noqa: PTH123
                token = file.read().strip()
            context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
        return get_json(self.kubernetes_url + path, token=token, context=context)


def get_json(
    url: str,
    *,
    token: str = "",
    body: dict[str, Any] | None = None,
    timeout_s: float = CALL_TIMEOUT_S,
    context: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """GET, or POST with a body. Raises `OSError` for anything but a JSON object with status 2xx."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - built from our own parts
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as response:  # noqa: S310
            value = json.loads(response.read())
    except urllib.error.HTTPError as error:
        words = error.read(500).decode(errors="replace").strip()
        raise OSError(f"HTTP {error.code}: {words}") from None
    except ValueError as error:
        raise OSError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise OSError("not a JSON object")
    return value


def evidence(answer: dict[str, Any]) -> str:
    """What an answer holds: tokens, or results. Raises `OSError` for nothing."""
    tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
    if tokens > 0:
        return f"{tokens} tokens"
    results = [value for item in answer.get("data") or [] for value in item.values() if value]
    if not results:
        raise OSError("its answer holds no token and no result")
    return f"{len(answer['data'])} result"


def matches(expected: Any, deployed: Any) -> bool:
    """Whether everything that is expected stands in what is deployed; Ray adds defaults of its own."""
    if isinstance(expected, dict):
        found = deployed if isinstance(deployed, dict) else {}
        return all(matches(value, found.get(key)) for key, value in expected.items())
    return expected == deployed


def own_words(application: dict[str, Any]) -> str:
    """What Ray Serve and the deployments say about themselves."""
    words = [application.get("message") or ""]
    for name, deployment in (application.get("deployments") or {}).items():
        if deployment.get("status") != "HEALTHY" and deployment.get("message"):
            words.append(f"{name} {deployment['status']}: {deployment['message']}")
    return " | ".join(word.strip() for word in words if word.strip()) or "no message yet"


def pod_troubles(pod: dict[str, Any]) -> list[str]:
    """Reasons in a pod's status that a person would want to see."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    troubles = [
        f"pod {name} cannot be scheduled: {condition.get('message', '')}"
        for condition in status.get("conditions") or []
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable"
    ]
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            troubles.append(f"pod {name}: {waiting['reason']}: {waiting.get('message', '')}")
    return troubles


def main() -> int:
    """Exit code 0 if the release answers, 1 with the reason as the last line if not."""
    check = Check(os.environ)
    try:
        print(check.run(), flush=True)
    except ReleaseError as error:
        print(f"[release check] {check.name} release {check.release}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
