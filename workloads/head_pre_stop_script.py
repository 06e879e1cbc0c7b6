"""Keeps the head of a Ray cluster that is being deleted until its workers have ended: its `preStop` hook.

Kubernetes asks all pods of the cluster to end at the same time. Only Serve's controller, on the head, knows
which requests are on their way, and ends the replicas and proxies that have none; without it every worker
drains for all the time that it has. A head that goes alone must not wait: the next one starts after it.

Runs alone in the head's container: the standard library only, nothing of this project.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CALL_TIMEOUT_S = 5.0
POLL_S = 0.5
# Ray's state API answers with 100 nodes unless it is asked for more, and the dead ones count.
NODES = "/api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
# What the Kubernetes API says to who may not ask any more, and of what is not there any more.
GONE = (401, 403, 404)


def main(patience_s: float, env: Mapping[str, str]) -> None:
    """Return at once while the cluster stays, otherwise when its workers have ended or after `patience_s`."""
    deadline = time.monotonic() + patience_s
    if not is_deleted(env):
        return
    while time.monotonic() < deadline and has_workers(env):
        time.sleep(POLL_S)


def is_deleted(env: Mapping[str, str]) -> bool:
    """Whether the RayCluster is being deleted; False where nobody answers.

    The role that lets the head read its own cluster goes with the cluster (BuildRole in
    ray-operator/controllers/ray/common/rbac.go, tag ray-operator/v1.7.0).
    """
    account = Path(env.get("SERVICE_ACCOUNT", ACCOUNT))
    api = env.get("KUBERNETES_URL", "https://kubernetes.default.svc")
    path = f"/apis/ray.io/v1/namespaces/{read(account / 'namespace')}/rayclusters/{env['RAY_CLUSTER_NAME']}"
    try:
        cluster = get(api + path, read(account / "token"), authority=account / "ca.crt")
    except urllib.error.HTTPError as refused:
        return refused.code in GONE
    except OSError:
        return False
    return "deletionTimestamp" in cluster["metadata"]


def has_workers(env: Mapping[str, str]) -> bool:
    """Whether another node of the cluster lives; False where Ray does not answer."""
    dashboard = env.get("DASHBOARD_URL", "http://localhost:8265")
    try:
        answer = get(dashboard + NODES, env.get("RAY_AUTH_TOKEN", ""))
    except OSError:
        return False
    return any(not node["is_head_node"] for node in answer["data"]["result"]["result"])


def get(url: str, token: str, authority: Path | None = None) -> Any:
    """The JSON at an address. Raises `OSError`, of which `HTTPError` is one."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    trust = ssl.create_default_context(cafile=authority) if url.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S, context=trust) as answer:  # noqa: S310
        return json.load(answer)


def read(file: Path) -> str:
    """A file's text without the line's end."""
    return file.read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    main(float(sys.argv[1]), os.environ)
