"""The stacks of this project keep to its policies, and every exemption is still needed."""

from __future__ import annotations

import pytest

from policy.model import Resource, from_graph, is_exempt
from policy.rules import RULES, check, read_config
from tests.graph.aws_platform import aws_platform
from tests.graph.conftest import Evaluated

STACKS = ("dev", "prod", "local")


def resources(evaluated: Evaluated, stack: str) -> list[Resource]:
    return [from_graph(resource) for resource in evaluated(stack).to_json()["resources"]]


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_keeps_to_the_policies(evaluated: Evaluated, stack: str) -> None:
    assert check(resources(evaluated, stack), read_config()) == []


@pytest.mark.parametrize("stack", STACKS)
def test_the_rules_find_something_to_look_at(evaluated: Evaluated, stack: str) -> None:
    """Without what it protects, a stack breaks rules; with it, none: so the check above can fail."""
    stripped = [
        Resource(
            type=found.type, name=found.name, urn=found.urn, props={"metadata": found.props.get("metadata")}
        )
        for found in resources(evaluated, stack)
    ]
    assert check(stripped, {})


def test_every_exemption_is_needed(evaluated: Evaluated) -> None:
    everything = [resource for stack in STACKS for resource in resources(evaluated, stack)]
    broken = {rule.name: [violation.urn for violation in rule.violations(everything)] for rule in RULES}
    for name, enforcement in read_config().items():
        for pattern in enforcement.exempt:
            assert any(is_exempt(urn, [pattern]) for urn in broken[name]), f"{name}: {pattern}"


def test_the_way_in_from_outside_keeps_to_the_policies() -> None:
    """A stack with an ingress, which none of the stacks above has."""
    found = [from_graph(resource) for resource in aws_platform().to_json()["resources"]]
    assert check(found, read_config()) == []
