"""Whether the RayService definition of a cluster knows what the stack puts into one.

Helm never updates a CRD, and none goes when a release goes, so a cluster may have the definition of an older
KubeRay. The API server answers a field it does not know with a page that names neither KubeRay nor the way
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from infra import versions
from infra.cluster_api import ClusterApi, ClusterError


def check(api: ClusterApi, name: str, api_version: str, spec: Mapping[str, Any]) -> None:
    """Raise `ClusterError` if a RayService's spec has fields that its definition in the cluster lacks."""
    schema = _schema_of(api.get(f"/openapi/v3/apis/{api_version}") or {})
    if schema is None:
        return  # it comes with the operator that the stack installs
    if unknown := list(unknown_fields(spec, schema["properties"]["spec"])):
        raise ClusterError(
            f"RayService {name!r}: the KubeRay definitions in {api.name} are of another version and do not "
            f"know {', '.join(unknown)}; bring them to {versions.KUBERAY}: `kubectl apply --server-side -k "
            f"'github.com/ray-project/kuberay/ray-operator/config/crd?ref=v{versions.KUBERAY}'`"
        )


def unknown_fields(value: Any, schema: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Paths in a value that a structural schema does not declare."""
    if isinstance(value, list):
        for number, entry in enumerate(cast("list[Any]", value)):
            yield from unknown_fields(entry, schema.get("items", {}), f"{path}[{number}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    declared, free = schema.get("properties", {}), schema.get("additionalProperties")
    for key, entry in cast("dict[str, Any]", value).items():
        below = f"{path}.{key}"
        if key in declared:
            yield from unknown_fields(entry, declared[key], below)
        elif isinstance(free, dict):
            yield from unknown_fields(entry, cast("dict[str, Any]", free), below)
        elif declared and not free:
            yield below


def _schema_of(document: Mapping[str, Any]) -> dict[str, Any] | None:
    for schema in document.get("components", {}).get("schemas", {}).values():
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        if any(entry["kind"] == "RayService" for entry in kinds):
            return schema
    return None
