"""The Kubernetes provider of an existing cluster."""

from __future__ import annotations

import pulumi_kubernetes as k8s


def existing_cluster(context: str | None) -> k8s.Provider:
    """The cluster behind a context of the kubeconfig, or behind the current one.

    A named context is also the cluster's identity: an edited kubeconfig then changes how the cluster is
    reached and does not replace what stands on it.
    """
    return k8s.Provider("kubernetes", context=context, cluster_identifier=context)
