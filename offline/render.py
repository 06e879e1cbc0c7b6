"""A graph for people: a tree in text, or a Mermaid flowchart.

Both show a dependency only where no other one implies it: of a Job that needs a RayService that needs a
namespace, the namespace is not shown as well. JSON has them all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import yaml

from offline.cost_table import cost_table
from offline.graph import Graph, Resource, is_secret, is_unknown

_STACK_TYPE = "pulumi:pulumi:Stack"


def text(graph: Graph) -> str:
    """The resources as a tree of parents, each with what it needs, and the stack's outputs."""
    count = sum(resource.type != _STACK_TYPE for resource in graph.resources)
    lines = [f"{graph.project}, stack {graph.stack}: {count} resources"]
    lines.extend(_Tree(graph).lines())
    if graph.cost:
        lines.extend(cost_table(graph.cost))
    # The cost has a table of its own.
    outputs = {name: value for name, value in graph.outputs.items() if name != "costPerHour"}
    if outputs:
        lines.append("outputs")
        shown = yaml.safe_dump(_readable(outputs), sort_keys=False, allow_unicode=True, width=10_000)
        lines.extend(f"  {line}" for line in shown.splitlines())
    return "\n".join(lines) + "\n"


def mermaid(graph: Graph) -> str:
    """A flowchart: components are boxes around their children, arrows point to what a resource needs."""
    ids = {resource.urn: f"r{number}" for number, resource in enumerate(graph.resources)}
    children = _children(graph)
    lines = ["flowchart TD"]
    for root in _roots(graph):
        lines.extend(_mermaid_node(root, ids, children, depth=1))
    needs = essential_dependencies(graph)
    for resource in graph.resources:
        lines.extend(f"  {ids[resource.urn]} --> {ids[urn]}" for urn in needs[resource.urn])
        if resource.deleted_with in ids:
            lines.append(f"  {ids[resource.urn]} -. deleted with .-> {ids[resource.deleted_with]}")
    return "\n".join(lines) + "\n"


def essential_dependencies(graph: Graph) -> dict[str, list[str]]:
    """For every URN its dependencies without those that another of them already implies."""
    position = {resource.urn: number for number, resource in enumerate(graph.resources)}
    # Bit n of reach[urn] says that urn needs resource n, directly or not.
    reach: dict[str, int] = {}
    essential: dict[str, list[str]] = {}
    for resource in graph.resources:
        direct = sorted((urn for urn in resource.dependencies if urn in position), key=position.__getitem__)
        implied = 0
        for urn in direct:
            implied |= reach[urn]
        essential[resource.urn] = [urn for urn in direct if not implied >> position[urn] & 1]
        reach[resource.urn] = implied
        for urn in direct:
            reach[resource.urn] |= 1 << position[urn]
    return essential


class _Tree:
    """Lines of the text view."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._needs = essential_dependencies(graph)
        self._children = _children(graph)
        self._root = _root_of_each(graph)
        custom = [resource for resource in graph.resources if resource.custom]
        self._kinds = Counter((self._root[resource.urn], resource.kind) for resource in custom)
        self._names_providers = sum(resource.type.startswith("pulumi:providers:") for resource in custom) > 1

    def lines(self) -> Iterator[str]:
        return self._walk(_roots(self._graph), "")

    def _walk(self, siblings: list[Resource], indent: str) -> Iterator[str]:
        for number, resource in enumerate(siblings, start=1):
            last = number == len(siblings)
            notes = "  ".join(self._notes(resource))
            module = resource.type.rpartition(":")[0]
            yield f"{indent}{'└─ ' if last else '├─ '}{resource.label}  [{module}]  {notes}".rstrip()
            yield from self._walk(self._children[resource.urn], indent + ("   " if last else "│  "))

    def _notes(self, resource: Resource) -> Iterator[str]:
        if needs := self._needs[resource.urn]:
            yield "needs " + ", ".join(self._short_label(resource, urn) for urn in needs)
        if self._names_providers and resource.provider is not None:
            yield "provider " + self._graph.by_urn[resource.provider].name
        if resource.deleted_with is not None:
            yield "deleted with " + self._short_label(resource, resource.deleted_with)
        if resource.external:
            yield f"only read, id {resource.id}"
        if resource.remote:
            yield "children unknown (built by a plugin)"
        if resource.protect:
            yield "protected"
        if resource.retain_on_delete:
            yield "kept on destroy"
        if resource.ignore_changes:
            yield "ignores changes of " + ", ".join(resource.ignore_changes)
        if resource.custom_timeouts:
            limits = sorted(resource.custom_timeouts.items())
            yield ", ".join(f"{operation} timeout {limit}" for operation, limit in limits)

    def _short_label(self, seen_from: Resource, urn: str) -> str:
        """The kind is enough for a resource of the same component that is the only one of its kind there."""
        resource = self._graph.by_urn[urn]
        root = self._root[urn]
        alone = self._kinds[root, resource.kind] == 1 and root == self._root[seen_from.urn]
        return resource.kind if alone else resource.label


def _mermaid_node(
    resource: Resource, ids: dict[str, str], children: dict[str, list[Resource]], depth: int
) -> Iterator[str]:
    indent = "  " * depth
    inner = children[resource.urn]
    if not inner:
        yield f'{indent}{ids[resource.urn]}["{_escaped(resource.kind)}<br/>{_escaped(resource.name)}"]'
        return
    yield f'{indent}subgraph {ids[resource.urn]}["{_escaped(resource.label)}"]'
    for child in inner:
        yield from _mermaid_node(child, ids, children, depth + 1)
    yield f"{indent}end"


def _escaped(name: str) -> str:
    # Even inside quotes Mermaid reads HTML, Markdown and #entities;, which can stand for any character.
    return re.sub(r"[^\w .:/-]", lambda character: f"#{ord(character[0])};", name)


def _children(graph: Graph) -> dict[str, list[Resource]]:
    children: dict[str, list[Resource]] = {resource.urn: [] for resource in graph.resources}
    for resource in graph.resources:
        if resource.parent is not None:
            children[resource.parent].append(resource)
    return children


def _roots(graph: Graph) -> list[Resource]:
    """What stands directly below the stack, which itself is the frame around everything."""
    stacks = {resource.urn for resource in graph.by_type(_STACK_TYPE)}
    return [
        resource
        for resource in graph.resources
        if resource.urn not in stacks and (resource.parent is None or resource.parent in stacks)
    ]


def _root_of_each(graph: Graph) -> dict[str, str]:
    roots = {resource.urn for resource in _roots(graph)}
    result: dict[str, str] = {}
    for resource in graph.resources:
        below = resource.parent is not None and resource.urn not in roots
        result[resource.urn] = result[resource.parent] if below and resource.parent else resource.urn
    return result


def _readable(value: Any) -> Any:
    if is_unknown(value):
        return "(known after deployment)"
    if is_secret(value):
        return "(secret)"
    if isinstance(value, dict):
        return {key: _readable(entry) for key, entry in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_readable(entry) for entry in cast("list[Any]", value)]
    return value
