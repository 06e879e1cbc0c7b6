"""The life of a small service: it comes, changes, is scaled, goes back, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import NewStack
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.service import Service, spec, stack_config
from tests.cluster.settings import Settings
from tests.cluster.stack import Config, Stack

pytestmark = pytest.mark.cluster

NAME = "solo"


@pytest.fixture(scope="module")
def stack(new_stack: NewStack) -> Iterator[Stack]:
    made = new_stack(NAME)
    yield made
    made.close()


@pytest.fixture
def service(kubernetes: Kubernetes) -> Service:
    return Service(NAME, kubernetes)


def config(told: Settings, **changed: Any) -> Config:
    return stack_config({NAME: spec(told, **changed)})


def replicas(count: int) -> dict[str, int]:
    return {"min": count, "max": count}


def test_a_first_up_answers_and_leaves_nothing_to_do(
    told: Settings, stack: Stack, service: Service, figures: dict[str, str]
) -> None:
    stack.destroy()
    first = stack.up(config(told))
    assert "Paris" in service.answer()
    unchanged = stack.unchanged()
    stack.refresh()
    after_refresh = stack.unchanged()
    figures["First `up`"] = f"{first.seconds:.0f} s"
    figures["`up` without a change"] = (
        f"{unchanged.seconds:.1f} s, after a refresh {after_refresh.seconds:.1f} s"
    )


def test_a_new_number_of_replicas_is_in_force_when_up_returns(
    told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told))
    stack.up(config(told, replicas=replicas(2)))
    assert service.engines() == ["RUNNING", "RUNNING"]
    assert len(service.ready_workers()) == 2
    stack.up(config(told))
    assert service.engines() == ["RUNNING"]
    assert "Paris" in service.answer()


def test_replicas_and_an_argument_change_together(told: Settings, stack: Stack, service: Service) -> None:
    stack.ensure(config(told))
    stack.up(config(told, replicas=replicas(2), slots=4))
    assert service.engines() == ["RUNNING", "RUNNING"]
    stack.up(config(told))
    assert service.engines() == ["RUNNING"]
    assert "Paris" in service.answer()


def test_a_release_that_served_before_is_checked_again(
    told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told))
    older = service.release()
    stack.up(config(told, slots=4))
    assert service.release() != older
    began = time.time()
    stack.up(config(told))
    assert service.release() == older
    assert service.checked_since(began)
    stack.unchanged()


def test_destroy_leaves_nothing_and_up_can_follow_at_once(
    told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told))
    stack.destroy()
    assert not service.has_namespace
    stack.up(config(told))
    assert "Paris" in service.answer()
    stack.destroy()
    assert not service.has_namespace
    assert service.clusters() == []
