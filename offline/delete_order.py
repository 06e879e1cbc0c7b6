"""The order in which `pulumi destroy` deletes a stack, replayed over its graph.

The engine (`stepGenerator.ScheduleDeletes` over `DependencyGraph.DependenciesOf`, pulumi 3.x) groups the
resources into waves. A wave starts when the one before is done; within a wave deletes run in parallel. A
resource waits for everything that depends on it, in any of these ways:

- `dependencies`, `propertyDependencies`, `deletedWith`, `replaceWith`
- its provider and its parent
- what depends on a component also depends on those children of it, at any depth, that were registered before
"""

from __future__ import annotations

from collections import defaultdict

from offline.graph import Graph, Resource


def delete_waves(graph: Graph) -> list[list[str]]:
    """URNs of the graph's resources, first deleted first; those in one list are deleted in parallel."""
    depth: dict[str, int] = {}
    for urn, needed in dependencies(graph).items():
        depth[urn] = 1 + max((depth[dependency] for dependency in needed), default=-1)
    waves: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for urn, level in depth.items():
        waves[level].append(urn)
    return waves[::-1]


def dependencies(graph: Graph) -> dict[str, set[str]]:
    """For every URN, in registration order, the URNs that must exist as long as it does."""
    descendants = _descendants(graph)
    registered: dict[str, Resource] = {}
    result: dict[str, set[str]] = {}
    for resource in graph.resources:
        needed = resource.references & registered.keys()
        for urn in list(needed):
            if not registered[urn].custom:
                needed |= descendants[urn] & registered.keys()
        if resource.parent is not None:
            needed.add(resource.parent)
        result[resource.urn] = needed
        registered[resource.urn] = resource
    return result


def _descendants(graph: Graph) -> dict[str, set[str]]:
    descendants: dict[str, set[str]] = defaultdict(set)
    for resource in graph.resources:
        ancestor = resource.parent
        while ancestor is not None:
            descendants[ancestor].add(resource.urn)
            ancestor = graph.by_urn[ancestor].parent
    return descendants
