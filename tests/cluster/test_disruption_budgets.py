"""Evictions, as a drain of nodes asks for them: one worker goes at a time, and none stays for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import NewStack
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.service import Service, spec, stack_config
from tests.cluster.settings import Settings
from tests.cluster.stack import Config, Stack

pytestmark = pytest.mark.cluster

NAME = "drained"
# The autoscaler gives an idle worker up after 300 s, and one that it has just made after 300 s more.
SCALED_DOWN_S = 900


@pytest.fixture(scope="module")
def stack(new_stack: NewStack) -> Iterator[Stack]:
    made = new_stack(NAME)
    yield made
    made.destroy()


@pytest.fixture
def service(kubernetes: Kubernetes) -> Service:
    return Service(NAME, kubernetes)


def config(told: Settings, *, replicas: int, **changed: Any) -> Config:
    return stack_config({NAME: spec(told, replicas={"min": replicas, "max": replicas}, **changed)})


def budgets(kubernetes: Kubernetes) -> dict[str, int]:
    """How many workers must stay, by the Ray cluster that owns the budget."""
    return {
        found["metadata"]["ownerReferences"][0]["name"]: found["spec"]["minAvailable"]
        for found in kubernetes.all("PodDisruptionBudget", NAME)
    }


def test_one_of_two_workers_goes_and_the_other_when_there_is_another(
    kubernetes: Kubernetes, told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told, replicas=2))
    (cluster,) = service.clusters()
    service.wait(lambda: budgets(kubernetes) == {cluster: 1}, "a budget for two workers")
    first, second = service.ready_workers()
    service.wait(lambda: kubernetes.evict(first) is None, "eviction of the first worker")
    refusal = kubernetes.evict(second)
    assert refusal
    assert "disruption budget" in refusal
    service.wait(lambda: kubernetes.evict(second) is None, "eviction of the second worker")
    others = [pod for pod in service.ready_workers() if pod["metadata"]["name"] != second["metadata"]["name"]]
    assert others, "the second worker was let go while no other was Ready"


def test_the_clusters_of_an_upgrade_have_a_budget_each(
    kubernetes: Kubernetes, told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told, replicas=2))
    (old,) = service.clusters()
    service.wait(lambda: budgets(kubernetes) == {old: 1}, "a budget for two workers")
    larger = config(told, replicas=2, worker={"cpus": 1, "memoryGib": 3.25})
    running = stack.begin_up(larger)
    service.wait(lambda: len(budgets(kubernetes)) == 2, "a budget of the second cluster")
    assert budgets(kubernetes)[old] == 1
    running.wait().expect()
    service.wait(lambda: old not in budgets(kubernetes), "the end of the first cluster's budget")
    (new,) = service.clusters()
    service.wait(lambda: budgets(kubernetes) == {new: 1}, "a budget for two workers of the second cluster")


def test_the_only_worker_goes_at_once(
    kubernetes: Kubernetes, told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told, replicas=1))
    service.wait(lambda: set(budgets(kubernetes).values()) == {0}, "a budget of none", SCALED_DOWN_S)
    for worker in service.ready_workers():
        assert kubernetes.evict(worker) is None
    service.wait(service.is_whole, "another worker")
