"""What must be true of an existing cluster, said before anything is registered."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from infra import cluster_api, namespaces
from infra.cluster_api import ClusterApi, ClusterError
from infra.config import StackConfig

_RAY_API = "ray.io/v1"
# Label of everything in KubeRay's chart (helm-chart/kuberay-operator/templates/_helpers.tpl, tag v1.7.0).
_OPERATORS = f"/apis/apps/v1/deployments?labelSelector={quote('app.kubernetes.io/name=kuberay-operator')}"


def check(stack: StackConfig) -> None:
    """Raise `ClusterError` unless the cluster answers and has KubeRay where the stack brings none along."""
    api = cluster_api.by_context(stack.kubeconfig_context)
    version = api.version
    if stack.kuberay.install:
        _check_no_other_operator(api)
    elif api.resource_of(_RAY_API, "RayService") is None:
        raise ClusterError(
            f"{api.name}, Kubernetes {version}, has no KubeRay (it does not know the kind RayService of "
            f"{_RAY_API}), and kuberay.install is false; set it to true, or install KubeRay"
        )


def _check_no_other_operator(api: ClusterApi) -> None:
    # Two operators would both act on every RayService of the cluster.
    for operator in (api.get(_OPERATORS) or {}).get("items", []):
        namespace = operator["metadata"]["namespace"]
        if namespace != namespaces.OPERATOR:
            raise ClusterError(
                f"{api.name} already runs a KubeRay operator, {_image(operator)} in namespace {namespace!r}; "
                "set kuberay.install: false to use it, or take it away first"
            )


def _image(deployment: dict[str, Any]) -> str:
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]
