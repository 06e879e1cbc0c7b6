"""The KubeRay operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import config, namespaces

_INSTALL_TIMEOUT_S = 600


class KubeRay(pulumi.ComponentResource):
    """The operator that turns RayService objects into Ray clusters, on nodes of the given node affinity.

    `needs` is what the operator needs to run, until it is gone.

    - Namespace
    - Helm release of the chart `kuberay-operator`, with its CRDs; a real Helm release, because it waits, and
      because the chart's hooks and history stay with it
    """

    def __init__(
        self,
        args: config.KubeRay,
        *,
        affinity: Mapping[str, Any] | None = None,
        needs: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("neuron-serve:infra:KubeRay", "kuberay", None, opts)
        namespace = k8s.core.v1.Namespace(
            "kuberay-namespace",
            metadata={"name": namespaces.OPERATOR},
            opts=pulumi.ResourceOptions(parent=self),
        )
        k8s.helm.v3.Release(
            "kuberay-operator",
            name="kuberay-operator",
            chart=args.chart,
            version=args.version,
            repository_opts={"repo": args.repository} if args.repository else None,
            namespace=namespace.metadata.name,
            atomic=True,
            timeout=_INSTALL_TIMEOUT_S,
            values=_values(args, affinity),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(needs)),
        )
        self.register_outputs({})


def _values(args: config.KubeRay, affinity: Mapping[str, Any] | None) -> dict[str, Any]:
    # The chart limits the operator to 0.1 CPU, which makes the reconciliation of a few services crawl.
    values: dict[str, Any] = {
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
    }
    if args.image_repository:
        values["image"] = {"repository": args.image_repository}
    if affinity:
        values["affinity"] = {"nodeAffinity": affinity}
    return values
