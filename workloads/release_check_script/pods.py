"""The pods of a Ray cluster: what keeps them from running, and whether waiting is of any use.

A wait for a node is patient. A container that crashes again and again, an image that does not exist, a secret
that is missing are not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.image_pulls import PATIENCE_S, SURE_AFTER_S, WAY_OUT, container_statuses, waiting_for

from .calls import CallError
from .kubernetes import Kubernetes
from .pod_status import (
    Crash,
    Object,
    Wait,
    cluster_of,
    crash,
    missing_mount,
    role_of,
    unschedulable,
    waits,
)

# Crashes after which another start would be no better, and the shortest time that they may fall into: what
# comes up beside the pod (a store, a name in DNS) has as long as what does not exist.
CRASHES = 5
_WAYS_OUT = {
    "image": WAY_OUT,
    "CreateContainerConfigError": "create what is missing, or remove what refers to it",
}


@dataclass
class _Crashes:
    """Crashes of pods that took each other's place, by pod, since when, and the last one in words."""

    since: float
    times: dict[str, int] = field(default_factory=dict[str, int])
    words: str = ""


class Pods:
    """The namespace's pods, followed without a gap, because KubeRay removes one that failed at once."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        *,
        clock: Callable[[], float] = time.monotonic,
        sure_after_s: float = SURE_AFTER_S,
    ) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._sure_after_s = sure_after_s
        self._version = ""
        self._pods: dict[str, Object] = {}
        self._crashes: dict[tuple[str, str], _Crashes] = {}
        self._most_pods: dict[tuple[str, str], int] = {}
        # Since when a container of a pod waits for one kind of thing, and since when that is surely in vain.
        self._waiting: dict[tuple[str, str, str], float] = {}
        self._sure: dict[tuple[str, str, str], float] = {}
        self._unseen = ""

    def follow(self, seconds: float) -> None:
        """Spend so much time on watching."""
        end = self._clock() + seconds
        try:
            if self._version:
                self._watch(seconds)
            else:
                self._list()
            self._unseen = ""
        except CallError as error:
            self._version = ""
            self._unseen = f"pods cannot be seen: {error}"
        time.sleep(max(0.0, end - self._clock()))

    def troubles(self, cluster: str) -> list[str]:
        """What a person would want to know while waiting: no node, no image, a crash."""
        pods = self._of(cluster)
        found = {trouble for pod in pods for trouble in (*unschedulable(pod), *map(str, waits(pod)))}
        found |= {crashes.words for role, crashes in self._crashes.items() if role[0] == cluster}
        return sorted(found | {self._unseen} - {""})

    def hopeless(self, cluster: str) -> str | None:
        """Why pods of a cluster will never run; None while that is not certain."""
        for pod in self._of(cluster):
            for wait in waits(pod):
                if self._in_vain(pod, wait):
                    return f"{wait}; {_WAYS_OUT.get(wait.kind, 'look at the pod')}"
        for role, crashes in self._crashes.items():
            if role[0] == cluster and self._too_many(role, crashes):
                return crashes.words
        return self._missing_mount(cluster)

    def _of(self, cluster: str) -> list[Object]:
        return [pod for pod in self._pods.values() if cluster_of(pod) == cluster]

    def _list(self) -> None:
        listed = self._kubernetes.get("pods")
        self._pods = {}
        for pod in listed.get("items") or []:
            self._see(pod)
        self._version = listed["metadata"]["resourceVersion"]

    def _watch(self, seconds: float) -> None:
        for event in self._kubernetes.watch("pods", self._version, max(1, round(seconds))):
            pod = event["object"]
            if event["type"] == "ERROR":
                # The API server has forgotten the version (410 Gone), so the list is asked for again.
                raise CallError(pod.get("message", "the watch ended"))
            self._version = pod["metadata"]["resourceVersion"]
            self._see(pod)
            if event["type"] == "DELETED":
                del self._pods[pod["metadata"]["uid"]]

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        role = role_of(pod)
        together = sum(role_of(each) == role for each in self._pods.values())
        self._most_pods[role] = max(self._most_pods.get(role, 0), together)
        for status in container_statuses(pod):
            if found := crash(pod, status):
                self._note_crash(pod, status["name"], found)
        self._note_waits(uid, waits(pod))

    def _note_crash(self, pod: Object, container: str, found: Crash) -> None:
        crashes = self._crashes.setdefault(role_of(pod), _Crashes(self._clock()))
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        if crashes.times.get(uid, 0) >= found.times:
            return
        crashes.times[uid] = found.times
        words = found.words or self._last_line(name, container)
        times = sum(crashes.times.values())
        counted = "once" if times == 1 else f"{times} times"
        crashes.words = f"pod {name}, container {container}: crashed {counted} ({found.how}): {words}"

    def _last_line(self, pod: str, container: str) -> str:
        for previous in (False, True):
            try:
                if line := self._kubernetes.last_line(pod, container, previous=previous):
                    return line
            except CallError as error:
                unread = f"its log cannot be read: {error}"
            else:
                unread = "its log is empty"
        return unread

    def _note_waits(self, uid: str, found: list[Wait]) -> None:
        now = self._clock()
        keys = {(uid, wait.container, wait.kind): wait for wait in found}
        for noted in (self._waiting, self._sure):
            for key in [key for key in noted if key[0] == uid and key not in keys]:
                del noted[key]
        for key, wait in keys.items():
            self._waiting.setdefault(key, now)
            if wait.sure:
                self._sure.setdefault(key, now)

    def _in_vain(self, pod: Object, wait: Wait) -> bool:
        key, now = (pod["metadata"]["uid"], wait.container, wait.kind), self._clock()
        if key in self._sure:
            return now - self._sure[key] >= self._sure_after_s
        return wait.kind == "image" and now - self._waiting[key] >= PATIENCE_S

    def _too_many(self, role: tuple[str, str], crashes: _Crashes) -> bool:
        """One pod that crashed so often, or as many in turn; pods that crash together count as one."""
        total = sum(crashes.times.values())
        often = max(crashes.times.values()) >= CRASHES or total >= CRASHES * self._most_pods[role]
        return often and self._clock() - crashes.since >= self._sure_after_s

    def _missing_mount(self, cluster: str) -> str | None:
        """A secret or ConfigMap that a volume lacks, which only the kubelet's events tell."""
        creating = {pod["metadata"]["name"] for pod in self._of(cluster) if _is_creating(pod)}
        if not creating:
            return None
        try:
            events = self._kubernetes.get("events", fieldSelector="reason=FailedMount")
        except CallError:
            return None
        for event in events.get("items") or []:
            missing = missing_mount(event, self._sure_after_s)
            if missing and event["involvedObject"]["name"] in creating:
                return f"{missing}; {_WAYS_OUT['CreateContainerConfigError']}"
        return None


def _is_creating(pod: Object) -> bool:
    reasons = {waiting_for(status)[0] for status in container_statuses(pod)}
    return "ContainerCreating" in reasons or "PodInitializing" in reasons
