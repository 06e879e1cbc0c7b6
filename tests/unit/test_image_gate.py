"""A Job is made once another pod runs from its image, and not at all for an image that will not come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra import cluster_api
from infra.cluster_api import ClusterError
from infra.image_gate import wait_for_image
from tests.api_server import ApiServer, api_server

PODS = "/api/v1/namespaces/chat/pods"
IMAGE = "registry.example/llm:2"
JOB = {"activeDeadlineSeconds": 900, "template": {"spec": {"containers": [{"image": IMAGE}]}}}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


class Clock:
    """Ten seconds pass between two looks at it; `then` is what has changed at each."""

    def __init__(self, *then: Callable[[], None]) -> None:
        self.now = 0.0
        self._then = iter(then)

    def __call__(self) -> float:
        next(self._then, lambda: None)()
        self.now += 10.0
        return self.now


def wait(server: ApiServer, clock: Clock) -> float:
    """Seconds until the Job may be made."""
    api = cluster_api.by_kubeconfig(json.dumps(server.kubeconfig()))
    asyncio.run(wait_for_image(api, "chat", JOB, clock=clock, poll_s=0))
    return clock.now


def pod(state: dict[str, Any] | None, image: str = IMAGE, **metadata: str) -> dict[str, Any]:
    statuses = [] if state is None else [{"name": "ray-head", "state": state}]
    return {
        "metadata": {"name": "chat-head", **metadata},
        "spec": {"containers": [{"name": "ray-head", "image": image}]},
        "status": {"containerStatuses": statuses},
    }


def show(server: ApiServer, *pods: dict[str, Any]) -> Callable[[], None]:
    return lambda: server.objects.update({PODS: {"items": list(pods)}})


def failing(message: str) -> dict[str, Any]:
    return pod({"waiting": {"reason": "ErrImagePull", "message": message}})


@pytest.mark.parametrize("state", [{"running": {}}, {"terminated": {"exitCode": 1}}])
def test_an_image_that_is_there_holds_nothing_up(server: ApiServer, state: dict[str, Any]) -> None:
    show(server, pod(state))()
    assert wait(server, Clock()) < 30


def test_a_job_that_nobody_shares_an_image_with_is_made_soon(server: ApiServer) -> None:
    show(server, pod({"running": {}}, image="registry.example/llm:1"), pod(None, deletionTimestamp="now"))()
    assert wait(server, Clock()) < 60


def test_an_image_that_does_not_exist_is_refused_after_a_minute(server: ApiServer) -> None:
    show(server, failing(f"{IMAGE}: not found"))()
    clock = Clock()
    with pytest.raises(ClusterError) as refused:
        wait(server, clock)
    assert str(refused.value) == (
        f"pod chat-head of namespace chat: ErrImagePull: {IMAGE}: not found; "
        "name an image that exists, or let the nodes pull this one"
    )
    assert 60 <= clock.now < 120


def test_a_registry_that_does_not_answer_has_ten_minutes(server: ApiServer) -> None:
    show(server, failing("dial tcp: i/o timeout"))()
    clock = Clock()
    with pytest.raises(ClusterError, match="i/o timeout"):
        wait(server, clock)
    assert 600 <= clock.now < 700


def test_an_image_that_comes_in_the_meantime_is_used(server: ApiServer) -> None:
    missing, there = show(server, failing("not found")), show(server, pod({"running": {}}))
    wait(server, Clock(missing, missing, missing, there))


def test_a_wait_for_a_node_is_as_patient_as_the_job(server: ApiServer) -> None:
    show(server, pod(None))()
    assert wait(server, Clock()) > 900


def test_an_api_server_that_fails_for_a_moment_ends_nothing(server: ApiServer) -> None:
    def fail() -> None:
        server.status = 503

    def heal() -> None:
        server.status = None

    show(server, failing("i/o timeout"))()
    come = show(server, pod({"running": {}}))
    wait(server, Clock(fail, fail, heal, come))
