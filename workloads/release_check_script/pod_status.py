"""What a pod's status says about its containers: why they wait, and that they crashed. No calls, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.image_pulls import REASONS, container_statuses, is_missing, waiting_for

from .words import last_words

Object = Mapping[str, Any]

# A container that ran for as long did start: then the kubelet begins anew with its back-off, too.
_RAN_WELL_S = 600.0
_UNREMARKABLE = {"ContainerCreating", "PodInitializing", "CrashLoopBackOff"}
_NO_MEMORY = "it needs more memory than its limit; raise the limit"
_NO_SUCH_SOURCE = re.compile(r'(secret|configmap) "[^"]*" not found|non-existent')


@dataclass(frozen=True)
class Wait:
    """Why a container does not start. `kind` is the same for the names that one cause goes by."""

    pod: str
    container: str
    kind: str
    sure: bool
    words: str

    def __str__(self) -> str:
        return f"pod {self.pod}, container {self.container}: {self.words}"


@dataclass(frozen=True)
class Crash:
    """A container that ended by itself, with an error. `times` counts those of this pod before it, too."""

    times: int
    how: str
    words: str


def cluster_of(pod: Object) -> str:
    """The RayCluster that a pod belongs to, by KubeRay's label."""
    return _labels(pod).get("ray.io/cluster", "")


def role_of(pod: Object) -> tuple[str, str]:
    """The pods that one takes the place of another in: RayCluster and group."""
    return cluster_of(pod), _labels(pod).get("ray.io/group", "")


def unschedulable(pod: Object) -> list[str]:
    """That no node takes the pod, in the scheduler's words."""
    return [
        f"pod {pod['metadata']['name']} cannot be scheduled: {condition.get('message', '')}"
        for condition in (pod.get("status") or {}).get("conditions") or []
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable"
    ]


def waits(pod: Object) -> list[Wait]:
    """Containers that wait for more than their turn."""
    found: list[Wait] = []
    for status in container_statuses(pod):
        reason, message = waiting_for(status)
        if not reason or reason in _UNREMARKABLE:
            continue
        kind = "image" if reason in REASONS else reason
        sure = reason == "CreateContainerConfigError" or (kind == "image" and is_missing(reason, message))
        words = f"{reason}: {last_words(message)}"
        found.append(Wait(pod["metadata"]["name"], status["name"], kind, sure, words))
    return found


def crash(pod: Object, status: Object) -> Crash | None:
    """The crash that a container's status tells of, if it is down."""
    state = status.get("state") or {}
    if waiting_for(status)[0] == "CrashLoopBackOff":
        state = status.get("lastState") or {}
    ended = state.get("terminated")
    # A pod that somebody deletes ends as it was told to.
    if not ended or not ended.get("exitCode") or pod["metadata"].get("deletionTimestamp"):
        return None
    if _seconds(ended.get("startedAt"), ended.get("finishedAt")) >= _RAN_WELL_S:
        return None
    reason = ended.get("reason") or "Error"
    # One that the kernel kills has no last words.
    words = _NO_MEMORY if reason == "OOMKilled" else last_words(ended.get("message") or "")
    return Crash(status.get("restartCount", 0) + 1, f"{reason}, exit code {ended['exitCode']}", words)


def missing_mount(event: Object, sure_after_s: float) -> str | None:
    """What a FailedMount event says is missing, once the kubelet has missed it for so long."""
    message = event.get("message") or ""
    if not _NO_SUCH_SOURCE.search(message):
        return None
    if _seconds(event.get("firstTimestamp"), event.get("lastTimestamp")) < sure_after_s:
        return None
    return f"pod {event['involvedObject']['name']}: FailedMount: {last_words(message)}"


def _labels(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _seconds(start: str | None, end: str | None) -> float:
    if not start or not end:
        return 0.0
    first, last = (datetime.strptime(each, "%Y-%m-%dT%H:%M:%SZ") for each in (start, end))
    return (last - first).total_seconds()
