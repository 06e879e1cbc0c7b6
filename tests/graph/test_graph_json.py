"""The graph as data: the documented format, and nothing lost on the way through JSON."""

from __future__ import annotations

import json

import pytest

from offline.graph import Diagnostic, FunctionCall, Graph, Resource
from tests.graph.conftest import Evaluated

SMALL = Graph(
    project="demo",
    stack="dev",
    resources=[
        Resource(
            urn="urn:pulumi:dev::demo::a:b:C::c",
            type="a:b:C",
            name="c",
            custom=True,
            inputs={"token": {"$secret": None}, "arn": {"$unknown": True}},
            property_dependencies={"arn": ["urn:pulumi:dev::demo::a:b:D::d"]},
            delete_before_replace=False,
            custom_timeouts={"delete": "30m"},
            hooks={"before_delete": ["drain"]},
        ),
        Resource(urn="urn:pulumi:dev::demo::a:b:D::d", type="a:b:D", name="d", custom=True),
        Resource(urn="urn:pulumi:dev::demo::a:b:D::e", type="a:b:D", name="e", custom=True),
    ],
    outputs={"url": "http://x"},
    calls=[FunctionCall(token="a:b:f", arguments={"x": 1}, provider="urn:p")],
    diagnostics=[Diagnostic(severity="warning", message="careful")],
)


def test_json_brings_a_graph_back_as_it_was() -> None:
    assert Graph.from_json(json.loads(json.dumps(SMALL.to_json()))) == SMALL


def test_json_brings_the_real_stack_back_as_it_was(evaluated: Evaluated) -> None:
    graph = evaluated("local")
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_json_has_the_documented_fields(evaluated: Evaluated) -> None:
    data = evaluated("local").to_json()
    assert {"project", "stack", "resources", "outputs"} <= set(data)
    documented = {
        "urn",
        "type",
        "name",
        "custom",
        "parent",
        "provider",
        "inputs",
        "dependencies",
        "propertyDependencies",
        "deletedWith",
        "protect",
        "customTimeouts",
    }
    for resource in data["resources"]:
        assert documented <= set(resource), resource["urn"]


def test_json_leaves_out_what_is_seldom_set_but_not_a_false_that_was_said() -> None:
    first, second, _ = SMALL.to_json()["resources"]
    assert first["deleteBeforeReplace"] is False
    assert first["hooks"] == {"before_delete": ["drain"]}
    assert "deleteBeforeReplace" not in second
    assert "hooks" not in second


def test_no_resource_comes_before_what_it_needs(evaluated: Evaluated) -> None:
    before: set[str] = set()
    for resource in evaluated("local").resources:
        assert resource.references <= before, resource.label
        assert resource.parent is None or resource.parent in before, resource.label
        before.add(resource.urn)


def test_one_finds_by_type_and_name_or_says_what_is_there() -> None:
    assert SMALL.one("a:b:C").name == "c"
    assert SMALL.one("a:b:D", "e").urn.endswith("::e")
    with pytest.raises(LookupError, match="2 resources are a:b:D; the graph has a:b:C 'c'"):
        SMALL.one("a:b:D")
    with pytest.raises(LookupError, match="0 resources are a:b:C named 'x'"):
        SMALL.one("a:b:C", "x")
