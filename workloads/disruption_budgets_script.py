"""Keeps a PodDisruptionBudget for the workers of every RayCluster of a namespace.

Runs alone in a pod: the standard library only, nothing of this project. `workloads/disruption_budgets.py`
puts it into a ConfigMap, describes the environment it is given and says why it exists.
"""

from __future__ import annotations

import faulthandler
import http.client
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

MANAGER = "disruption-budgets"
MANAGED = {"app.kubernetes.io/name": "neuron-serve", "app.kubernetes.io/managed-by": MANAGER}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CALL_TIMEOUT_S = 10.0
LONGEST_PAUSE_S = 60.0

Json = dict[str, Any]
Call = Callable[..., Json]


def min_available(desired: int, held: int, healthy: int) -> int:
    """How many workers must stay, so that one at a time may go: one less than those that serve.

    `desired` is what the RayCluster asks for, `held` the budget until now, `healthy` the Ready workers.
    Those that serve are the most that were Ready at once, as long as so many are desired. To count only those
    that are Ready now would let one eviction license the next. To count all that are desired would hold every
    worker as long as one of them finds no node, or gets no replica: such a one is never Ready.
    """
    serving = min(desired, max(held + 1, healthy))
    return max(0, serving - 1)


def budget(cluster: Json, current: Json) -> Json:
    """The PodDisruptionBudget of a RayCluster; `current` is the one that is there, or empty."""
    name, status = cluster["metadata"]["name"], current.get("status") or {}
    owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": name, "uid": cluster["metadata"]["uid"]}
    workers = min_available(
        # The operator's own count over all worker groups, within their bounds (CalculateDesiredReplicas in
        # ray-operator/controllers/ray/utils/util.go, v1.7.0). It leaves out a zero.
        (cluster.get("status") or {}).get("desiredWorkerReplicas", 0),
        (current.get("spec") or {}).get("minAvailable", 0),
        # Without those that are about to go (countHealthyPods in pkg/controller/disruption/disruption.go,
        # Kubernetes 1.35), unlike the RayCluster's own count.
        status.get("currentHealthy", 0),
    )
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": budget_name(cluster), "labels": MANAGED, "ownerReferences": [owner]},
        "spec": {
            # A number, because a share needs a scale subresource, which RayClusters lack (getExpectedPodCount
            # in the same file).
            "minAvailable": workers,
            # Labels that no pod template can override (labelPod in
            # ray-operator/controllers/ray/common/pod.go, v1.7.0).
            "selector": {"matchLabels": {"ray.io/cluster": name, "ray.io/node-type": "worker"}},
            # A worker without a replica is never Ready and may go at any time.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def budget_name(cluster: Json) -> str:
    """Name of the budget of a RayCluster."""
    return f"{cluster['metadata']['name']}-workers"


class Keeper:
    """Writes the budgets of a namespace that are not as they should be."""

    def __init__(self, namespace: str, call: Call) -> None:
        self._call = call
        self._clusters = f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters"
        self._budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"

    def step(self) -> list[str]:
        """Look once. Returns a line for every change; raises `OSError` where the API does not do its part."""
        budgets = {one["metadata"]["name"]: one for one in self._list(self._budgets)}
        changes: list[str] = []
        for cluster in self._list(self._clusters):
            # One that is being deleted takes its budget along.
            if "deletionTimestamp" not in cluster["metadata"]:
                changes += self._keep(cluster, budgets.get(budget_name(cluster), {}))
        return changes

    def _list(self, path: str) -> list[Json]:
        return self._call("GET", path).get("items") or []

    def _keep(self, cluster: Json, current: Json) -> list[str]:
        wanted = budget(cluster, current)
        owners = (current.get("metadata") or {}).get("ownerReferences")
        if (current.get("spec"), owners) == (wanted["spec"], wanted["metadata"]["ownerReferences"]):
            return []
        path = f"{self._budgets}/{budget_name(cluster)}?fieldManager={MANAGER}&force=true"
        self._call("PATCH", path, wanted)
        before = (current.get("spec") or {}).get("minAvailable", "none")
        return [f"{budget_name(cluster)}: minAvailable {before} -> {wanted['spec']['minAvailable']}"]


class Log:
    """Prints changes, and an error once for as long as it stays the same."""

    def __init__(self) -> None:
        self._error = ""

    def changes(self, lines: list[str]) -> None:
        """After a look that went well."""
        for line in [*(["the Kubernetes API does its part again"] if self._error else []), *lines]:
            print(line, flush=True)
        self._error = ""

    def failure(self, error: OSError) -> None:
        """After a look that did not."""
        if str(error) != self._error:
            self._error = str(error)
            print(f"budgets stay as they are: {error}", file=sys.stderr, flush=True)


def keep(keeper: Keeper, poll_s: float, stuck_s: float) -> None:
    """Look again and again, more rarely while that fails. A look of more than `stuck_s` ends the process."""
    log, failures = Log(), 0
    while True:
        # Not a signal, which a process that is the first of its container does not get by default, and not a
        # probe, which would start an interpreter every few seconds. It says where it stood still.
        faulthandler.dump_traceback_later(stuck_s, exit=True)
        try:
            log.changes(keeper.step())
            failures = 0
        except OSError as error:
            log.failure(error)
            failures += 1
        faulthandler.cancel_dump_traceback_later()
        time.sleep(min(poll_s * 2 ** min(failures, 10), LONGEST_PAUSE_S))


def api(url: str) -> Call:
    """Calls of the Kubernetes API at `url`, in the name of the pod's service account where it asks by TLS."""

    def call(method: str, path: str, body: Json | None = None) -> Json:
        """Raises `OSError` for anything but a JSON object with status 2xx."""
        headers, context = {"Accept": "application/json"}, None
        if url.startswith("https:"):
            # Read anew, because the token is renewed every hour.
            with open(f"{ACCOUNT}/token", encoding="utf-8") as file:  # noqa: PTH123 - one import less in a script
                headers["Authorization"] = f"Bearer {file.read().strip()}"
            context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
        if body is not None:
            # Server-side apply takes YAML, of which JSON is a part.
            headers["Content-Type"] = "application/apply-patch+yaml"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, headers, method=method)  # noqa: S310 - our own parts
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S, context=context) as response:  # noqa: S310
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise OSError(f"HTTP {error.code} for {method} {path}: {own_words(error.read())}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise OSError(f"{method} {path}: {error!r}") from None

    return call


def own_words(body: bytes) -> str:
    """The message in the API's `Status` object, or the beginning of another answer."""
    try:
        return json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip()


def main() -> None:
    """Keep the budgets until the pod is asked to go."""
    # The first process of a container ignores the signal unless it has a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    url = os.environ.get("KUBERNETES_URL", "https://kubernetes.default.svc")
    keeper = Keeper(os.environ["NAMESPACE"], api(url))
    keep(keeper, float(os.environ.get("POLL_S", "5")), float(os.environ.get("STUCK_S", "60")))


if __name__ == "__main__":
    main()
