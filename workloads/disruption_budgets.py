"""Who keeps the PodDisruptionBudgets of a service's workers: a small Deployment beside its Ray clusters.

A drain of nodes (`kubectl drain`, Karpenter's consolidation, drift, spot hand-over) is to take one worker
after the other. That needs a budget, and one that moves:

- The workers belong to a RayCluster, which has no scale subresource. For such owners Kubernetes takes neither
  `maxUnavailable` nor a percentage, but refuses every eviction; only a whole number of `minAvailable` works
  (getExpectedPodCount in pkg/controller/disruption/disruption.go, Kubernetes 1.35).
- The right number follows Ray's autoscaler, which no `pulumi up` sees.
- During an upgrade there are two RayClusters, with names that KubeRay draws. Each has a budget of its own, so
  that workers of the new one do not count for those of the old one.

A container beside the head would follow all that, too. But it would be part of the pod's shape, so that a
change of it makes a second cluster; it would go whenever the head goes; and the head's service account would
have to be allowed to write budgets.

Without the keeper budgets stay as they are, and drains go on by them. They belong to their RayCluster and go
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from infra.pod_security import restricted_container
from workloads.network_policies import DISRUPTION_BUDGETS
from workloads.service_plan import ServicePlan

_SCRIPT = Path(__file__).with_name("disruption_budgets_script.py")
_DIRECTORY = "/opt/disruption-budgets"
_NAME = "disruption-budgets"


@dataclass(frozen=True)
class DisruptionBudgetsArgs:
    """The keeper starts after the release check and is gone before it.

    It runs from the service's image, and Pulumi waits ten minutes for a Deployment whose image does not
    exist. Until a release is in force, the keeper of the one before does its work.
    """

    plan: ServicePlan
    namespace: pulumi.Input[str]
    release_check: pulumi.Resource


class DisruptionBudgets(pulumi.ComponentResource):
    """Service account, role and binding (RayClusters and budgets of the namespace), script, Deployment."""

    def __init__(self, args: DisruptionBudgetsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:DisruptionBudgets", args.plan.name, None, opts)
        self._resource_name = f"{args.plan.name}-{_NAME}"
        self._metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": _NAME,
            "namespace": args.namespace,
            "labels": DISRUPTION_BUDGETS,
        }
        account = k8s.core.v1.ServiceAccount(self._resource_name, metadata=self._metadata, opts=self._own())
        binding = self._binding(args, account)
        self._deployment(args, account, self._script(args), binding)
        self.register_outputs({})

    def _own(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(after))

    def _binding(
        self, args: DisruptionBudgetsArgs, account: k8s.core.v1.ServiceAccount
    ) -> k8s.rbac.v1.RoleBinding:
        role = k8s.rbac.v1.Role(
            self._resource_name,
            metadata=self._metadata,
            rules=[
                {"api_groups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["list"]},
                # Server-side apply of an object that is not there asks for `create` as well.
                {
                    "api_groups": ["policy"],
                    "resources": ["poddisruptionbudgets"],
                    "verbs": ["list", "create", "patch"],
                },
            ],
            opts=self._own(),
        )
        return k8s.rbac.v1.RoleBinding(
            self._resource_name,
            metadata=self._metadata,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata.name},
            subjects=[{"kind": "ServiceAccount", "name": account.metadata.name, "namespace": args.namespace}],
            opts=self._own(),
        )

    def _script(self, args: DisruptionBudgetsArgs) -> k8s.core.v1.ConfigMap:
        return k8s.core.v1.ConfigMap(
            self._resource_name,
            # Pulumi draws the name: another script is another object, and the Deployment rolls.
            metadata={"namespace": args.namespace, "labels": DISRUPTION_BUDGETS},
            immutable=True,
            data={_SCRIPT.name: _SCRIPT.read_text(encoding="utf-8")},
            opts=self._own(),
        )

    def _deployment(
        self,
        args: DisruptionBudgetsArgs,
        account: k8s.core.v1.ServiceAccount,
        script: k8s.core.v1.ConfigMap,
        binding: k8s.rbac.v1.RoleBinding,
    ) -> None:
        k8s.apps.v1.Deployment(
            self._resource_name,
            metadata=self._metadata,
            spec={
                "replicas": 1,
                "selector": {"match_labels": DISRUPTION_BUDGETS},
                "template": {"metadata": {"labels": DISRUPTION_BUDGETS}, "spec": _pod(args, account, script)},
            },
            opts=self._own(args.release_check, binding),
        )


def _pod(
    args: DisruptionBudgetsArgs, account: k8s.core.v1.ServiceAccount, script: k8s.core.v1.ConfigMap
) -> k8s.core.v1.PodSpecArgsDict:
    return {
        "service_account_name": account.metadata.name,
        "affinity": {"pod_affinity": _beside_the_head()},
        "volumes": [{"name": "script", "config_map": {"name": script.metadata.name}}],
        "containers": [
            {
                "name": _NAME,
                "image": args.plan.service.image,
                "image_pull_policy": "IfNotPresent",
                "command": ["python", f"{_DIRECTORY}/{_SCRIPT.name}"],
                "env": [{"name": "NAMESPACE", "value": args.namespace}],
                "volume_mounts": [{"name": "script", "mount_path": _DIRECTORY, "read_only": True}],
                "resources": {
                    "requests": {"cpu": "10m", "memory": "32Mi"},
                    "limits": {"memory": "128Mi"},
                },
                "security_context": restricted_container(read_only_root=True),
            }
        ],
    }


def _beside_the_head() -> k8s.core.v1.PodAffinityArgsDict:
    # The service's image, which may have many GiB, is there already. No more than a wish: a node without room
    # would leave the budgets to themselves.
    head: k8s.core.v1.PodAffinityTermArgsDict = {
        "topology_key": "kubernetes.io/hostname",
        "label_selector": {"match_labels": {"ray.io/node-type": "head"}},
    }
    return {
        "preferred_during_scheduling_ignored_during_execution": [{"weight": 100, "pod_affinity_term": head}]
    }
