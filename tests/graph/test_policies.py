"""The stacks of this project keep to its policies, and every exemption is still needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.model import ENVIRONMENT_TAG, Resource, from_graph, is_exempt
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
    broken = {rule.name: list(rule.violations(everything)) for rule in RULES}
    for name, enforcement in read_config().items():
        for pattern in enforcement.exempt:
            assert any(is_exempt(found, [pattern]) for found in broken[name]), f"{name}: {pattern}"
        for environment in enforcement.exempt_environments:
            assert any(is_exempt(found, (), [environment]) for found in broken[name]), environment


def test_only_what_is_looked_up_is_exempt_in_dev(evaluated: Evaluated) -> None:
    """What follows the environment is what has its tag: charts and images of a dev stack are pinned too."""
    (rule,) = [rule for rule in RULES if rule.name == "pinned-versions"]
    found = list(rule.violations(resources(evaluated, "dev")))
    assert {violation.environment for violation in found} == {"dev"}
    assert {violation.resource.partition(" ")[0] for violation in found} == {"Addon", "EC2NodeClass"}


def test_the_name_of_a_stack_exempts_nothing() -> None:
    """Add-ons of production that are looked up, in a stack that is called dev."""
    found = [from_graph(resource) for resource in aws_platform().to_json()["resources"]]
    renamed = [
        replace(each, props=each.props | {"tags": each.props["tags"] | {ENVIRONMENT_TAG: "prod"}})
        for each in found
        if each.type == "aws:eks/addon:Addon"
    ]
    assert renamed
    violations = check(renamed, read_config())
    assert {violation.rule for violation in violations} == {"pinned-versions"}
    assert len(violations) == len(renamed)


def test_the_way_in_from_outside_keeps_to_the_policies() -> None:
    """A stack with an ingress, which none of the stacks above has."""
    found = [from_graph(resource) for resource in aws_platform().to_json()["resources"]]
    assert check(found, read_config()) == []
