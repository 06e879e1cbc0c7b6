"""The figures of the quick start are what the program says."""

from __future__ import annotations

import re

from infra.service_config import LlmService
from tests.documented import ROOT
from tests.graph.conftest import Evaluated
from tests.graph.stacks import stack_file
from workloads.fit import replica_fit
from workloads.placement import place

PAGE = (ROOT / "docs/quick-start.md").read_text()
ROWS = {
    "network with one NAT gateway": "natGateways",
    "EKS control plane": "controlPlane",
    "system nodes": "systemNodes",
    "Ray head and its node": "generalNodes",
    "Neuron node, image pull": "neuronNodes inf2",
}


def shown(row: str) -> str:
    (amount,) = re.findall(rf"^\| {re.escape(row)} \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE)
    return amount


def test_every_step_costs_what_the_page_says(evaluated: Evaluated) -> None:
    cost = evaluated("dev").cost
    assert cost is not None
    amounts = {part: amount["min"] for part, amount in cost["parts"].items()}
    assert {part for part, amount in amounts.items() if amount is not None} == set(ROWS.values())
    for row, part in ROWS.items():
        assert shown(row) == f"{amounts[part]:.3f}"
    assert shown("store of Ray's state") == "unknown: `aws.prices.cache.t4g.small`"
    known = sum(amount for amount in amounts.values() if amount is not None)
    assert shown("**in all**") == f"more than {known:.3f}"


def test_the_weights_have_the_size_that_the_page_says() -> None:
    (keys,) = stack_file("dev")["neuron-serve:services"].values()
    service = LlmService.model_validate(keys)
    memory = replica_fit("mistral-7b", service, place("mistral-7b", service)).memory
    assert memory is not None
    assert f"{memory.checkpoint / 1e9:.1f} GB" in PAGE
