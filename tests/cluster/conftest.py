"""A cluster that is never empty: another stack's service runs on it all the time, and must not notice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from rich.console import Console

from tests.cluster import report
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.load import Row, clients
from tests.cluster.service import Service, spec, stack_config
from tests.cluster.settings import Settings, settings, what_is_missing
from tests.cluster.stack import Stack
from tests.graph.stacks import CHECKOUT

LOGS = CHECKOUT / "test-artifacts" / "cluster"
BYSTANDER = "bystander"
_ROWS = pytest.StashKey[list[Row]]()
_FIGURES = pytest.StashKey[dict[str, str]]()
# Requests a second: what leaves two cores time for the roll-out that goes on meanwhile.
_RATE, _BYSTANDER_RATE = 2.0, 0.2

NewStack = Callable[[str], Stack]
UnderLoad = Callable[[Service, str], AbstractContextManager[Row]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play every story as often as is asked for, in a row."""
    if (times := settings().repeat) > 1:
        metafunc.fixturenames.append("play")
        metafunc.parametrize("play", range(1, times + 1))


def pytest_terminal_summary(config: pytest.Config) -> None:
    """What was measured."""
    if rows := config.stash.get(_ROWS, []):
        Console().print(report.table(rows))
    for name, figure in config.stash.get(_FIGURES, {}).items():
        Console().print(f"{name}: {figure}", highlight=False)


@pytest.fixture(scope="session", autouse=True)
def kubernetes() -> Iterator[Kubernetes]:
    """The cluster of KUBECONFIG. Without one there is nothing to test, but on CI there has to be one."""
    if missing := what_is_missing():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    shutil.rmtree(LOGS, ignore_errors=True)
    with Kubernetes() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def told() -> Settings:
    return settings()


@pytest.fixture(scope="session")
def new_stack(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> NewStack:
    """Makes stacks, each called like its service and so like its namespace."""

    def make(name: str) -> Stack:
        assert not kubernetes.get("Namespace", name), (
            f"namespace {name} is left of a run that was killed; kubectl delete namespace {name}"
        )
        return Stack(name, tmp_path_factory.mktemp(name), LOGS)

    return make


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[Row]:
    """One a loaded scenario, for the table."""
    return pytestconfig.stash.setdefault(_ROWS, [])


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    """What else a story measured, by name."""
    return pytestconfig.stash.setdefault(_FIGURES, {})


@pytest.fixture(scope="session", autouse=True)
def bystander(
    kubernetes: Kubernetes,
    told: Settings,
    new_stack: NewStack,
    rows: list[Row],
    figures: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service of another stack, under a load of its own. It brings the operator where there is none."""
    stack, service = new_stack(BYSTANDER), Service(BYSTANDER, kubernetes)
    operator = kubernetes.all("Deployment", labels="app.kubernetes.io/name=kuberay-operator")
    kuberay = {"install": False} if operator else told.operator
    try:
        stack.up(stack_config({BYSTANDER: spec(told)}, kuberay=kuberay))
        seen_on = report.versions(kubernetes, stack)
        row = Row("the other stack's service, all the time", replicas=1)
        with clients(service.url, BYSTANDER, row, tmp_path_factory.mktemp("load") / "out", _BYSTANDER_RATE):
            yield service
        rows.append(row)
        report.save(rows, figures, seen_on)
        stack.unchanged()
    finally:
        stack.close()
    row.expect_nothing_lost()
    assert not service.has_namespace, f"namespace {BYSTANDER} is left after destroy"


@pytest.fixture
def under_load(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> UnderLoad:
    """A context with clients on a service; what it yields is a row of the table."""

    def load(service: Service, scenario: str) -> AbstractContextManager[Row]:
        row = Row(scenario, replicas=len(service.engines()))
        rows.append(row)
        return clients(service.url, service.name, row, tmp_path_factory.mktemp("load") / "out", _RATE)

    return load
