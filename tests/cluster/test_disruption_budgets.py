"""The budgets that evictions go by: one a Ray cluster, and none that holds a worker for ever."""

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
# The autoscaler gives an idle worker up after 300 s, and perhaps another that it made meanwhile.
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


def test_the_clusters_of_an_upgrade_have_a_budget_each(
    told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told, replicas=2))
    (old,) = service.clusters()
    service.wait(lambda: service.budgets() == {old: 1}, "a budget of two workers")
    running = stack.begin_up(config(told, replicas=2, worker={"cpus": 1, "memoryGib": 3.25}))
    service.wait(lambda: len(service.budgets()) == 2, "a budget of the second cluster")
    assert service.budgets()[old] == 1
    running.wait().expect()
    service.wait(lambda: old not in service.budgets(), "the end of the first cluster's budget")
    (new,) = service.clusters()
    service.wait(lambda: service.budgets() == {new: 1}, "a budget of the second cluster's two workers")


def test_the_only_worker_left_goes_at_once(
    kubernetes: Kubernetes, told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told, replicas=1))
    service.wait(lambda: set(service.budgets().values()) == {0}, "a budget of one worker", SCALED_DOWN_S)
    (worker,) = service.ready_workers()
    assert kubernetes.evict(worker) is None
    service.wait(service.is_whole, "another worker")
