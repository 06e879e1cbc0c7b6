"""Where the cluster's controllers run: on the system nodes, which outlive everything they control."""

from __future__ import annotations

from typing import Any

# A controller on a node of Karpenter's would go with the node: at the latest when the node pools are deleted,
# which is when Karpenter and the load balancer controller still have to clean up.
NOT_ON_KARPENTER_NODES: dict[str, Any] = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "karpenter.sh/nodepool", "operator": "DoesNotExist"}]}
        ]
    }
}

# The taint of nodes that are kept for such controllers; coredns and Karpenter's chart tolerate it by default.
TOLERATES_SYSTEM_NODES: list[dict[str, str]] = [{"key": "CriticalAddonsOnly", "operator": "Exists"}]
