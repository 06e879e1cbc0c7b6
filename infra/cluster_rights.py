"""What the credentials of a cluster may do, asked before the first object is made and not at the third."""

from __future__ import annotations

from functools import cache

from infra.cluster_api import ClusterApi, ClusterError

# What the provider does with an object in the course of its life.
_VERBS = ("get", "list", "watch", "create", "patch", "delete")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@cache
def check(api: ClusterApi, api_version: str, plural: str, namespace: str | None) -> None:
    """Raise `ClusterError` unless the credentials may do all that the provider does with a kind of object.

    Asked once for all objects of a kind in a namespace.
    """
    group = api_version.rpartition("/")[0]
    missing = (
        []
        if _may(api, "*", group, plural, namespace)
        else [verb for verb in _VERBS if not _may(api, verb, group, plural, namespace)]
    )
    if missing:
        where = f"in namespace {namespace!r}" if namespace else "in the cluster"
        raise ClusterError(
            f"{api.name}: these credentials may not {', '.join(missing)} "
            f"{'.'.join(filter(None, (plural, group)))} {where}; "
            "ask for a role that may, or use another context"
        )


def _may(api: ClusterApi, verb: str, group: str, plural: str, namespace: str | None) -> bool:
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace or ""}
    review = api.create(
        _REVIEWS,
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    )
    return review["status"]["allowed"]
