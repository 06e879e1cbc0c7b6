"""The identity of a release: what has to be the same for two deployments to be the same software."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from workloads.effects import IS_RELEASE, effect


def release_id(serve_config: Mapping[str, Any], ray_cluster: Mapping[str, Any]) -> str:
    """Ten hex digits over all whose change reloads replicas or makes a second Ray cluster.

    That is code, arguments, pod shape, how replicas are spread, and whether they scale by themselves. What is
    taken over in place (numbers of replicas, limits, time-outs) and what reaches nothing that runs is not.
    """
    spec = {"serveConfigV2": serve_config, "rayClusterConfig": ray_cluster}
    counted = [
        (path, value)
        for part, whole in spec.items()
        for path, value in _places(whole, part)
        if effect(path) in IS_RELEASE
    ]
    return hashlib.sha256(json.dumps(sorted(counted, key=lambda place: place[0])).encode()).hexdigest()[:10]


def _places(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every place in a value and what stands there; of objects and lists only that they are there."""
    if isinstance(value, Mapping):
        yield path, {}
        for key, entry in cast("Mapping[str, Any]", value).items():
            yield from _places(entry, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, []
        for index, entry in enumerate(cast("list[Any]", value)):
            yield from _places(entry, f"{path}[{index}]")
    else:
        yield path, value
