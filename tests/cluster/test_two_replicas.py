"""A service that must not stop, with two replicas and a store for its head's state: nothing is ever lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.grace_periods import drain_s
from tests.cluster.conftest import NewStack, UnderLoad
from tests.cluster.kubernetes import Kubernetes, Object
from tests.cluster.service import Service, spec, stack_config
from tests.cluster.settings import Settings
from tests.cluster.stack import Config, Stack

pytestmark = pytest.mark.cluster

NAME, GUEST = "pair", "guest"
TWO = {"min": 2, "max": 2}


@pytest.fixture(scope="module")
def stack(new_stack: NewStack) -> Iterator[Stack]:
    made = new_stack(NAME)
    yield made
    made.close()


@pytest.fixture
def service(kubernetes: Kubernetes, told: Settings, stack: Stack) -> Service:
    """Up, with both replicas at work."""
    stack.ensure(config(told))
    made = Service(NAME, kubernetes)
    made.wait(lambda: len(made.ready_workers()) == 2 and made.is_whole(), "two workers at work")
    return made


def config(told: Settings, *guests: str, **changed: Any) -> Config:
    services = {NAME: spec(told, replicas=TWO, **changed), **{guest: spec(told) for guest in guests}}
    return stack_config(services, gcsStore=told.store)


def names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def test_an_argument_changes_in_place(
    told: Settings, stack: Stack, service: Service, under_load: UnderLoad
) -> None:
    before, clusters = service.release(), service.clusters()
    with under_load(service, "argument changed in place") as row:
        running = stack.begin_up(config(told, slots=4))
        answered_s = service.wait(lambda: service.release() != before and service.is_whole(), "new release")
        done = running.wait().expect()
        row.also["up"] = f"{done.seconds:.0f} s"
        row.also["after the new release answered"] = f"{done.seconds - answered_s:.0f} s"
    row.expect_nothing_lost()
    assert service.clusters() == clusters


def test_a_bad_release_changes_nothing_and_the_way_back_is_open_every_time(
    told: Settings, stack: Stack, service: Service, under_load: UnderLoad
) -> None:
    good = service.release()
    with under_load(service, "bad release and back, twice") as row:
        for _ in range(2):
            failed = stack.up_fails(config(told, model="/nowhere"))
            assert "model '/nowhere': no such directory" in failed.output
            began = time.time()
            stack.up(config(told))
            assert service.checked_since(began)
            assert service.release() == good
    row.expect_nothing_lost()


def test_the_nodes_of_the_workers_are_drained(
    kubernetes: Kubernetes, service: Service, under_load: UnderLoad
) -> None:
    service.wait(lambda: set(service.budgets().values()) == {1}, "a budget that holds one worker")
    first, second = service.ready_workers()
    with under_load(service, "worker pods drained, one by one") as row:
        service.wait(lambda: kubernetes.evict(first) is None, "eviction of the first worker")
        assert kubernetes.evict(second), "the last worker was let go before there was another"
        held_s = service.wait(lambda: kubernetes.evict(second) is None, "eviction of the second worker")
        gone = names([first, second])
        service.wait(
            lambda: not names(service.pods("worker")) & gone and len(service.ready_workers()) == 2,
            "two new workers in the place of the old ones",
        )
        row.also["second eviction held back"] = f"{held_s:.0f} s"
    row.expect_nothing_lost()
    assert service.engines() == ["RUNNING", "RUNNING"]


def test_the_head_pod_dies(kubernetes: Kubernetes, service: Service, under_load: UnderLoad) -> None:
    (head,) = service.pods("head")
    workers = names(service.ready_workers())
    with under_load(service, "head pod deleted") as row:
        kubernetes.delete_pod(head, grace_s=0)
        back_s = service.wait(
            lambda: not names(service.pods("head")) & names([head]) and service.is_whole(), "a new head"
        )
        row.also["new head"] = f"{back_s:.0f} s"
    row.expect_nothing_lost()
    assert names(service.ready_workers()) == workers


def test_a_worker_pod_is_deleted(kubernetes: Kubernetes, service: Service, under_load: UnderLoad) -> None:
    gone, _ = service.ready_workers()
    with under_load(service, "worker pod deleted") as row:
        kubernetes.delete_pod(gone)
        replaced_s = service.wait(
            lambda: len(names(service.ready_workers()) - names([gone])) == 2 and service.is_whole(),
            "another worker",
        )
        row.also["replaced"] = f"{replaced_s:.0f} s"
    row.expect_nothing_lost()


def test_a_second_service_comes_and_goes(
    kubernetes: Kubernetes, told: Settings, stack: Stack, service: Service, under_load: UnderLoad
) -> None:
    guest = Service(GUEST, kubernetes)
    with under_load(service, "second service added and removed") as row:
        added = stack.up(config(told, GUEST))
        assert "Paris" in guest.answer()
        removed = stack.up(config(told))
        row.also |= {"added": f"{added.seconds:.0f} s", "removed": f"{removed.seconds:.0f} s"}
    row.expect_nothing_lost()
    assert not guest.has_namespace
    # An idle worker has nothing to wait for.
    assert removed.seconds < drain_s(spec(told)["requestTimeoutSeconds"])


def test_another_pod_shape_is_a_second_cluster(
    told: Settings, stack: Stack, service: Service, under_load: UnderLoad
) -> None:
    (before,) = service.clusters()
    with under_load(service, "other image and pod shape: second cluster") as row:
        done = stack.up(config(told, image=told.next_image, worker={"cpus": 1.5, "memoryGib": 3}))
        service.wait(lambda: before not in service.clusters(), "the end of the first cluster")
        row.also["up"] = f"{done.seconds:.0f} s"
    row.expect_nothing_lost()
    assert len(service.clusters()) == 1
