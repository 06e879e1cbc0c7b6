"""Which changes compile a service anew, and which do not; and what a stack file may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from infra.service_config import LlmService
from tests.unit.plans import CPU, NEURON, plan
from workloads.precompile import graphs_digest, job_spec

PRECOMPILED = NEURON | {"precompile": True}
BASE = plan(PRECOMPILED)


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 4},
        {"maxModelLen": 4096},
        {"image": "i:2"},
        {"tensorParallel": 4},
        {"dtype": "float32"},
        {"sampling": "device"},
        {"model": "mistralai/Mistral-7B-Instruct-v0.2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_graphs_depend_on_compiles_anew_for_replicas_that_reload(change: dict[str, Any]) -> None:
    changed = plan(PRECOMPILED, **change)
    assert graphs_digest(changed) != graphs_digest(BASE)
    assert changed.release != BASE.release


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": {"min": 1, "max": 3}},
        {"maxQueue": 7},
        {"requestTimeoutSeconds": 60},
        {"stepTimeoutSeconds": 60},
        {"streamIntervalMilliseconds": 0},
        {"startTimeoutSeconds": 7200},
        {"codeUrl": "s3://stack/code/llm-2.zip"},
        {"servedName": "other"},
        {"auth": "none"},
        {"upgrade": "recreate"},
        {"dataPlane": "haproxy"},
        {"cpusPerReplica": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_else_does(change: dict[str, Any]) -> None:
    changed = plan(PRECOMPILED, **change)
    assert graphs_digest(changed) == graphs_digest(BASE)
    # A Job with another specification would be made anew as well.
    assert job_spec(changed) == job_spec(BASE)


def test_it_is_off_by_default_and_no_part_of_a_release() -> None:
    without = plan(NEURON)
    assert isinstance(without.service, LlmService)
    assert not without.service.precompile
    assert without.release == BASE.release
    assert without.spec == BASE.spec


def test_only_neuron_compiles() -> None:
    with pytest.raises(ValueError, match="precompile has no effect with accelerator 'cpu'"):
        plan(CPU | {"precompile": True})
