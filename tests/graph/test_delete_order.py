"""The replay of the engine's delete order: every kind of edge holds, and nothing waits without need."""

from __future__ import annotations

from typing import Any

import pytest

from offline.delete_order import delete_waves
from offline.errors import OfflineError
from offline.graph import Graph, Resource
from offline.recorder import evaluate
from tests.graph.conftest import MakeProject


def graph(*resources: Resource) -> Graph:
    return Graph(project="demo", stack="dev", resources=list(resources), outputs={})


def resource(urn: str, **fields: Any) -> Resource:
    return Resource(urn=urn, type="a:b:C", name=urn, **{"custom": True, **fields})


@pytest.mark.parametrize(
    "edge",
    [
        {"dependencies": ["x"]},
        {"property_dependencies": {"input": ["x"]}},
        {"deleted_with": "x"},
        {"replace_with": ["x"]},
        {"provider": "x"},
        {"parent": "x"},
    ],
    ids=lambda edge: next(iter(edge)),
)
def test_a_resource_goes_before_what_it_refers_to(edge: dict[str, Any]) -> None:
    assert delete_waves(graph(resource("x"), resource("y", **edge))) == [["y"], ["x"]]


def test_what_is_independent_goes_together() -> None:
    assert delete_waves(graph(resource("x"), resource("y"))) == [["x", "y"]]


def test_a_chain_goes_link_by_link_and_a_branch_as_late_as_the_engine_would() -> None:
    chain = [
        resource("a"),
        resource("b", dependencies=["a"]),
        resource("c", dependencies=["b"]),
        resource("leaf", dependencies=["a"]),
    ]
    # The engine peels from the roots, so a leaf near the root goes late although nothing needs it.
    assert delete_waves(graph(*chain)) == [["c"], ["b", "leaf"], ["a"]]


def test_what_needs_a_component_goes_before_the_children_registered_so_far() -> None:
    waves = delete_waves(
        graph(
            resource("component", custom=False, remote=True),
            resource("inner", custom=False, parent="component"),
            resource("child", parent="inner"),
            resource("user", dependencies=["component"]),
            resource("late", parent="component", dependencies=["user"]),
        )
    )
    order = {urn: number for number, wave in enumerate(waves) for urn in wave}
    assert order["late"] < order["user"] < order["child"] < order["inner"] < order["component"]


def test_children_of_custom_resources_are_not_implied() -> None:
    waves = delete_waves(
        graph(
            resource("custom"), resource("child", parent="custom"), resource("user", dependencies=["custom"])
        )
    )
    assert waves == [["child", "user"], ["custom"]]


def test_an_empty_graph_has_no_waves() -> None:
    assert delete_waves(graph()) == []


PROGRAM = """
    import pulumi
    from resources import Group, Thing

    cluster = Thing("cluster")
    provider = pulumi.ProviderResource("test", "provider", {"kubeconfig": cluster.computed})
    on = pulumi.ResourceOptions(provider=provider)
    platform = Group("platform", pulumi.ResourceOptions(providers=[provider]))
    operator = Thing("operator", opts=pulumi.ResourceOptions(parent=platform))
    namespace = Thing("namespace", opts=pulumi.ResourceOptions(provider=provider, depends_on=[platform]))
    service = Thing("service", {"namespace": namespace.id}, on)
    fenced = pulumi.ResourceOptions(provider=provider, deleted_with=cluster)
    Thing("settings", {"namespace": namespace.id}, fenced)
    # Made last, but what depends on the component is to wait for it as well.
    Thing("operator-settings", opts=pulumi.ResourceOptions(parent=platform))
"""


@pytest.mark.parametrize("unknowns", [False, True], ids=["known", "first preview"])
def test_a_platform_outlives_its_services(make_project: MakeProject, unknowns: bool) -> None:
    recorded = evaluate("dev", project_dir=make_project(PROGRAM), unknowns=unknowns)
    order = {
        recorded.by_urn[urn].name: number
        for number, wave in enumerate(delete_waves(recorded))
        for urn in wave
    }
    assert order["service"] < order["namespace"] < order["operator"] < order["provider"] < order["cluster"]
    assert order["namespace"] < order["operator-settings"] < order["provider"]
    assert order["settings"] < order["namespace"]
    assert order["demo-dev"] == len(delete_waves(recorded)) - 1


def test_a_circle_of_dependencies_is_refused(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        from resources import Group, Thing

        one, two = Group("one"), Group("two")
        Thing("a", opts=pulumi.ResourceOptions(parent=one, depends_on=[two]))
        Thing("b", opts=pulumi.ResourceOptions(parent=two, depends_on=[one]))
    """)
    with pytest.raises(Exception, match="circular dependency") as caught:
        evaluate("dev", project_dir=project)
    assert not isinstance(caught.value, OfflineError)
