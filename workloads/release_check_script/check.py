"""The check itself: one release of one RayService, seen through Kubernetes, Ray and the service."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .calls import CallError, get_json
from .kubernetes import Kubernetes
from .pods import Pods
from .serve import not_in_force, own_words, whole_report

# The first answer of a release may still warm something up.
ANSWER_TIMEOUT_S = 120.0
LABEL = "app.kubernetes.io/component=release-check"
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
    """The release cannot come up; waiting longer would not help. `report` is all that Ray says of it."""

    def __init__(self, sentence: str, report: str = "") -> None:
        super().__init__(sentence)
        self.report = report


class Check:
    """`expected` is what `workloads.release_check` wants in force; the rest comes from the environment."""

    def __init__(self, expected: Mapping[str, Any], env: Mapping[str, str]) -> None:
        namespace = env["NAMESPACE"]
        self.name: str = expected["service"]
        self.release: str = expected["release"]
        self.application: dict[str, Any] = expected["application"]
        self.app: str = expected["app"]
        # Name of the model to ask, empty for applications without our API.
        self.model: str = expected["model"]
        self.timeout_s: float = expected["timeout_s"]
        self.job = env["JOB"]
        self.service_url = env.get("SERVICE_URL", f"http://{self.name}-serve-svc.{namespace}.svc:8000")
        self.dashboard_url = env.get("DASHBOARD_URL", f"http://{{head}}.{namespace}.svc:8265")
        self.ray_token = env.get("RAY_AUTH_TOKEN", "")
        self.api_key_file = env.get("API_KEYS_FILE", "")
        self.poll_s = float(env.get("POLL_S", "3"))
        url = env.get("KUBERNETES_URL", "https://kubernetes.default.svc")
        self.kubernetes = Kubernetes(url, namespace)
        self.pods = Pods(self.kubernetes, sure_after_s=float(env.get("SURE_AFTER_S", "60")))

    def run(self) -> str:
        """Wait for the release. Returns what was seen; raises `ReleaseError` with the reason."""
        self._remove_older_checks()
        deadline = time.monotonic() + self.timeout_s
        last = ""
        while True:
            state = self._step()
            if state is None:
                try:
                    return self._ask()
                except CallError as error:
                    state = f"the release runs but did not answer a question: {error}"
            if state != last:
                print(state, flush=True)
                last = state
            if time.monotonic() > deadline:
                raise ReleaseError(f"not ready after {self.timeout_s:.0f} s: {last}")
            self.pods.follow(self.poll_s)

    def _remove_older_checks(self) -> None:
        """Jobs that an `up` left behind when it was killed; the engine does not know them."""
        try:
            jobs = self.kubernetes.get("jobs", api="apis/batch/v1", labelSelector=LABEL).get("items") or []
            made = {job["metadata"]["name"]: job["metadata"]["creationTimestamp"] for job in jobs}
            for name in made.keys() - {self.job}:
                if made[name] <= made.get(self.job, ""):
                    self.kubernetes.delete(f"jobs/{name}", api="apis/batch/v1")
        except CallError as error:
            print(f"checks before this one are not removed: {error}", flush=True)

    def _step(self) -> str | None:
        """None if the release is in force, else what it waits for. Raises `ReleaseError` if in vain."""
        try:
            resource = self.kubernetes.get(f"rayservices/{self.name}", api="apis/ray.io/v1")
        except CallError as error:
            return f"the Kubernetes API does not answer: {error}"
        status = resource.get("status") or {}
        _raise_if_refused(status)
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

    def _serve_state(self, cluster: Mapping[str, Any]) -> str | None:
        name: str = cluster["rayClusterName"]
        head = ((cluster.get("rayClusterStatus") or {}).get("head") or {}).get("serviceName")
        url = self.dashboard_url.format(head=head or f"{name}-head-svc")
        try:
            serve = get_json(f"{url}/api/serve/applications/", token=self.ray_token)
            application = (serve.get("applications") or {}).get(self.name)
            waiting = not_in_force(self.application, application)
        except CallError:
            application, waiting = None, f"waiting for the Ray head of {name}"
        if waiting is None:
            return None
        if application and application.get("deployed_app_config") == self.application:
            _raise_if_failed(application)
        if hopeless := self.pods.hopeless(name):
            raise ReleaseError(hopeless)
        return "; ".join([waiting, *self.pods.troubles(name)])

    def _release_state(self) -> str | None:
        if not self.model:
            return None
        try:
            health = get_json(self.service_url + "/health")
        except CallError as error:
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
        try:
            lines = Path(self.api_key_file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise CallError(f"there is no API key to ask with: {error}") from None
        return next((line.strip() for line in lines if line.strip()), "")


def _raise_if_refused(status: Mapping[str, Any]) -> None:
    for condition in status.get("conditions") or []:
        if condition.get("reason") in ("ValidationFailed", "InitializingTimeout"):
            raise ReleaseError(f"KubeRay gave up: {condition['reason']}: {condition.get('message', '')}")


def _raise_if_failed(application: Mapping[str, Any]) -> None:
    if application["status"] == "DEPLOY_FAILED":
        raise ReleaseError(own_words(application), whole_report(application))


def evidence(answer: Mapping[str, Any]) -> str:
    """What an answer holds: tokens, or results. Raises `CallError` for nothing."""
    usage, data = answer.get("usage"), answer.get("data")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if isinstance(tokens, int) and tokens > 0:
        return f"{tokens} tokens"
    items = data if isinstance(data, list) else []
    if not any(value for item in items if isinstance(item, dict) for value in item.values()):
        raise CallError("its answer holds no token and no result")
    return f"{len(items)} result"


def read_expected(path: Path) -> dict[str, Any]:
    """What is to be in force, as `workloads.release_check` wrote it."""
    return json.loads(path.read_text(encoding="utf-8"))
