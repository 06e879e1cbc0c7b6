"""The graph for people: the tree and the flowchart."""

from __future__ import annotations

import re
from typing import Any

from offline.graph import Graph, Resource
from offline.render import essential_dependencies, mermaid, text
from tests.graph.conftest import Evaluated

STACK = "urn:stack"


def graph(*resources: Resource, **fields: Any) -> Graph:
    root = Resource(urn=STACK, type="pulumi:pulumi:Stack", name="demo-dev", custom=False)
    return Graph(
        project="demo", stack="dev", resources=[root, *resources], outputs=fields.pop("outputs", {}), **fields
    )


def resource(urn: str, **fields: Any) -> Resource:
    defaults = {"type": "a:b:C", "name": urn, "custom": True, "parent": STACK}
    return Resource(urn=urn, **{**defaults, **fields})


def service(number: int) -> list[Resource]:
    """A component of five resources, one needing the other."""
    component = f"service-{number}"
    kinds = ("Namespace", "Secret", "ConfigMap", "RayService", "Job")
    return [
        resource(component, type="x:y:Service", custom=False),
        *(
            resource(
                f"{component}-{kind}",
                type=f"k:v1:{kind}",
                parent=component,
                dependencies=[f"{component}-{other}" for other in kinds[:position]],
            )
            for position, kind in enumerate(kinds)
        ),
    ]


def test_a_dependency_that_another_implies_is_left_out() -> None:
    essential = essential_dependencies(
        graph(
            resource("a"),
            resource("b", dependencies=["a"]),
            resource("c", dependencies=["a", "b"]),
            resource("d", dependencies=["a", "c"]),
            resource("e", dependencies=["a"]),
        )
    )
    assert essential == {STACK: [], "a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["a"]}


def test_the_tree_shows_parents_needs_and_what_is_special() -> None:
    shown = text(
        graph(
            resource("p", type="pulumi:providers:k", name="k"),
            resource("group", type="x:y:Group", custom=False),
            resource("one", type="k:v1:Namespace", parent="group", custom_timeouts={"delete": "30m"}),
            resource("two", type="k:v1:Job", parent="group", dependencies=["one"], protect=True),
            resource(
                "three", type="k:v1:Job", dependencies=["one"], deleted_with="p", ignore_changes=["data"]
            ),
            resource("four", external=True, id="i-1", retain_on_delete=True),
            resource("five", custom=False, remote=True),
            outputs={"url": {"$unknown": True}, "key": {"$secret": None}, "ports": [1, 2]},
        )
    )
    assert shown == (
        "demo, stack dev: 7 resources\n"
        "├─ k k  [pulumi:providers]\n"
        "├─ Group group  [x:y]\n"
        "│  ├─ Namespace one  [k:v1]  delete timeout 30m\n"
        "│  └─ Job two  [k:v1]  needs Namespace  protected\n"
        "├─ Job three  [k:v1]  needs Namespace one  deleted with k k  ignores changes of data\n"
        "├─ C four  [a:b]  only read, id i-1  kept on destroy\n"
        "└─ C five  [a:b]  children unknown (built by a plugin)\n"
        "outputs\n"
        "  url: (known after deployment)\n"
        "  key: (secret)\n"
        "  ports:\n"
        "  - 1\n"
        "  - 2\n"
    )


def test_providers_are_named_where_there_are_several() -> None:
    providers = [resource(name, type=f"pulumi:providers:{name}") for name in ("k", "aws")]
    assert "provider aws" in text(graph(*providers, resource("x", provider="aws")))
    assert "provider" not in text(graph(providers[0], resource("x", provider="k"))).replace(
        "pulumi:providers", ""
    )


def test_a_hundred_resources_are_a_line_each() -> None:
    shown = text(graph(*(entry for number in range(20) for entry in service(number))))
    lines = shown.splitlines()
    assert lines[0] == "demo, stack dev: 120 resources"
    assert len(lines) == 121
    assert "│  └─ Job service-7-Job  [k:v1]  needs RayService" in lines


def test_the_flowchart_has_a_box_for_each_component_and_an_arrow_for_each_need() -> None:
    chart = mermaid(graph(*service(1), resource("x", deleted_with="service-1-Namespace")))
    assert chart == (
        "flowchart TD\n"
        '  subgraph r1["Service service-1"]\n'
        '    r2["Namespace<br/>service-1-Namespace"]\n'
        '    r3["Secret<br/>service-1-Secret"]\n'
        '    r4["ConfigMap<br/>service-1-ConfigMap"]\n'
        '    r5["RayService<br/>service-1-RayService"]\n'
        '    r6["Job<br/>service-1-Job"]\n'
        "  end\n"
        '  r7["C<br/>x"]\n'
        "  r3 --> r2\n"
        "  r4 --> r3\n"
        "  r5 --> r4\n"
        "  r6 --> r5\n"
        "  r7 -. deleted with .-> r2\n"
    )


def test_names_cannot_break_out_of_a_flowchart() -> None:
    names = [
        '"]; click r1 "x',
        "end",
        "<script>alert(1)</script>",
        "a#quot;b",
        "`code`",
        "line\nbreak",
        "größe",
    ]
    chart = mermaid(graph(*(resource(f"u{number}", name=name) for number, name in enumerate(names))))
    lines = chart.splitlines()
    assert lines[0] == "flowchart TD"
    assert len(lines) == 1 + len(names)
    assert all(re.fullmatch(r'  r\d+\["C<br/>[\w .:/#;-]+"\]', line) for line in lines[1:])
    assert '"C<br/>a#35;quot#59;b"' in chart


def test_the_real_stack_is_drawn_whole(evaluated: Evaluated) -> None:
    local = evaluated("local")
    shown, chart = text(local), mermaid(local)
    for entry in local.resources[1:]:
        assert entry.label in shown
    assert chart.count("subgraph") == chart.count("  end\n")
    declared = set(re.findall(r'^\s*(?:subgraph )?(r\d+)\["', chart, re.MULTILINE))
    assert len(declared) == len(local.resources) - 1
    assert {name for arrow in re.findall(r"(r\d+) -.*> (r\d+)", chart) for name in arrow} <= declared
