"""A Job that reports on other pods is made once their image is there, because it runs from the same one.

With an image that does not exist its own pod could not start either, and `up` would wait for the Job's
deadline, an hour or more, without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from infra.cluster_api import ClusterApi, ClusterError, in_thread
from infra.image_pulls import (
    PATIENCE_S,
    REASONS,
    SURE_AFTER_S,
    WAY_OUT,
    container_statuses,
    is_missing,
    waiting_for,
)

_POLL_S = 2.0
# An operator needs seconds to make the pods of an object; where there are none by then, nobody waits.
_NO_PODS_S = 15.0


async def wait_for_image(
    api: ClusterApi,
    namespace: str,
    job: Mapping[str, Any],
    *,
    clock: Callable[[], float] = time.monotonic,
    poll_s: float = _POLL_S,
) -> None:
    """Return once a pod of the namespace runs from the image of the Job, or none wants it.

    A wait for a node is as patient as the Job. Raises `ClusterError` for an image that will not come.
    """
    image: str = job["template"]["spec"]["containers"][0]["image"]
    began, failing_since, missing_since = clock(), None, None
    while True:
        pods = await in_thread(_pods, api, namespace)
        statuses = _of_image(pods or [], image)
        now = clock()
        patience_s = _NO_PODS_S if pods is not None and not statuses else job["activeDeadlineSeconds"]
        if any(_has_started(status) for _, status in statuses) or now - began > patience_s:
            return
        failures = [(pod, *waiting_for(status)) for pod, status in statuses]
        failures = [failure for failure in failures if failure[1] in REASONS]
        missing = any(is_missing(reason, message) for _, reason, message in failures)
        failing_since = (failing_since or now) if failures else None
        missing_since = (missing_since or now) if missing else None
        if _is_over(missing_since, now, SURE_AFTER_S) or _is_over(failing_since, now, PATIENCE_S):
            pod, reason, message = max(failures, key=lambda failure: is_missing(*failure[1:]))
            raise ClusterError(f"pod {pod} of namespace {namespace}: {reason}: {message}; {WAY_OUT}")
        await asyncio.sleep(poll_s)


def _pods(api: ClusterApi, namespace: str) -> list[dict[str, Any]] | None:
    """The pods of a namespace; None while the API server does not answer, which ends no roll-out."""
    try:
        return (api.get(f"/api/v1/namespaces/{namespace}/pods") or {}).get("items") or []
    except ClusterError:
        return None


def _of_image(pods: list[dict[str, Any]], image: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Containers with an image: the pod's name and the container's status; not of pods that end."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        wanting = {each["name"] for each in containers if each["image"] == image}
        # A pod without a node has no statuses yet.
        statuses = container_statuses(pod) or [{"name": name} for name in wanting]
        found += [(pod["metadata"]["name"], status) for status in statuses if status["name"] in wanting]
    return found


def _has_started(status: Mapping[str, Any]) -> bool:
    state = status.get("state") or {}
    return "running" in state or "terminated" in state or bool(status.get("restartCount"))


def _is_over(since: float | None, now: float, longest_s: float) -> bool:
    return since is not None and now - since >= longest_s
