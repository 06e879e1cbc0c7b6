"""`pulumi up` that is killed, by Ctrl-C or with its machine: another `up` is all that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from signal import SIGINT, SIGKILL, Signals
from typing import Any

import pytest

from tests.cluster.conftest import NewStack
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.service import Service, moment, spec, stack_config
from tests.cluster.settings import Settings
from tests.cluster.stack import Config, Finished, Stack

pytestmark = pytest.mark.cluster

NAME = "cut"
# A moment: does it hold, of what has happened since a Unix time?
Moment = Callable[[Service, float], bool]


def check_exists(service: Service, since: float) -> bool:
    return any(moment(job["metadata"]["creationTimestamp"]) >= int(since) for job in service.checks())


def check_runs(service: Service, since: float) -> bool:
    return any(
        moment(job["metadata"]["creationTimestamp"]) >= int(since) and job.get("status", {}).get("ready")
        for job in service.checks()
    )


MOMENTS: dict[str, Moment] = {
    "before the RayService": lambda service, _: service.has_namespace,
    "at the RayService": lambda service, _: service.exists,
    "at the check": check_exists,
    "during the check": check_runs,
    "after the check": Service.checked_since,
}


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


def cut(stack: Stack, service: Service, wanted: Config, when: Moment, how: Signals) -> Finished:
    """An `up` that is ended at the moment."""
    began = time.time()
    done = stack.begin_up(wanted).interrupt_when(lambda: when(service, began), how)
    if how == SIGKILL:
        stack.unlock()
    return done


def expect_that_up_heals(stack: Stack, service: Service, wanted: Config, since: float) -> None:
    stack.up(wanted)
    assert "Paris" in service.answer()
    assert service.release() == stack.output("releases")[NAME]
    assert service.checked_since(since), "no release check has run"
    stack.unchanged()


def test_an_up_that_is_killed_again_and_again_converges(
    told: Settings, stack: Stack, service: Service
) -> None:
    stack.destroy()
    for (name, when), how in zip(MOMENTS.items(), (SIGKILL, SIGINT, SIGKILL, SIGINT, SIGKILL), strict=True):
        began = time.time()
        done = cut(stack, service, config(told), when, how)
        assert done.code != 0 or when is Service.checked_since, f"{name}: up was over\n{done.output}"
    expect_that_up_heals(stack, service, config(told), began)


@pytest.mark.parametrize("how", [SIGINT, SIGKILL])
def test_a_change_that_is_killed_can_be_taken_back(
    how: Signals, told: Settings, stack: Stack, service: Service
) -> None:
    stack.ensure(config(told))
    done = cut(stack, service, config(told, slots=4), check_exists, how)
    assert done.code != 0, done.output
    began = time.time()
    expect_that_up_heals(stack, service, config(told), began)


@pytest.mark.slow
@pytest.mark.parametrize("how", [SIGINT, SIGKILL])
@pytest.mark.parametrize("name", MOMENTS)
def test_a_first_up_that_is_killed_once_converges(
    name: str, how: Signals, told: Settings, stack: Stack, service: Service
) -> None:
    stack.destroy()
    began = time.time()
    cut(stack, service, config(told), MOMENTS[name], how)
    expect_that_up_heals(stack, service, config(told), began)
