"""The AWS Load Balancer Controller, which turns Ingress objects into load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from infra import versions
from infra.aws_scope import current_scope
from infra.cluster import EksCluster
from infra.iam import allow, assumed_by_pods
from infra.ingress_policy import load_balancer_policy
from infra.scheduling import NOT_ON_KARPENTER_NODES, TOLERATES_SYSTEM_NODES

# The class of the Ingress objects that this controller looks after.
INGRESS_CLASS = "alb"

_NAMESPACE = "kube-system"
_CHART = "aws-load-balancer-controller"
_INSTALL_TIMEOUT_S = 600


@dataclass(frozen=True)
class LoadBalancerControllerArgs:
    """`cluster_name` is the name in EKS; `tags` go on everything, load balancers included."""

    cluster: EksCluster
    cluster_name: str
    vpc_id: pulumi.Input[str]
    tags: Mapping[str, str]


class LoadBalancerController(pulumi.ComponentResource):
    """Makes application load balancers for Ingress objects, and nothing for anything else. Its resources:

    - IAM role with its policy, and its Pod Identity association
    - Helm release

    An Ingress depends on the release: without the controller nobody removes the load balancer, whose network
    interfaces then hold the VPC.
    """

    release: pulumi.Resource

    def __init__(
        self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("neuron-serve:infra:LoadBalancerController", name, None, opts)
        self._name = name
        self._args = args
        self._own = pulumi.ResourceOptions(parent=self)
        self._scope = current_scope(args.cluster_name, self)
        self.release = self._release([*self._role(), *args.cluster.ready])
        self.register_outputs({})

    def _role(self) -> list[pulumi.Resource]:
        """Everything that the controller's pods need before they start."""
        tags = {**self._args.tags, "Name": f"{self._args.cluster_name}-load-balancer-controller"}
        role = aws.iam.Role(
            self._name,
            description=f"AWS Load Balancer Controller in {self._args.cluster_name}",
            assume_role_policy=assumed_by_pods(),
            tags=tags,
            opts=self._own,
        )
        statements = load_balancer_policy(
            self._scope,
            vpc_id=self._args.vpc_id,
            node_security_group_id=self._args.cluster.security_group_id,
        )
        policy = aws.iam.RolePolicy(self._name, role=role.name, policy=allow(*statements), opts=self._own)
        association = aws.eks.PodIdentityAssociation(
            self._name,
            cluster_name=self._args.cluster.name,
            namespace=_NAMESPACE,
            service_account=_CHART,
            role_arn=role.arn,
            tags=tags,
            opts=self._own,
        )
        return [policy, association]

    def _release(self, needed: list[pulumi.Resource]) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            self._name,
            name=_CHART,
            chart=_CHART,
            version=versions.LOAD_BALANCER_CONTROLLER,
            repository_opts={"repo": versions.EKS_CHARTS},
            namespace=_NAMESPACE,
            atomic=True,
            timeout=_INSTALL_TIMEOUT_S,
            values=chart_values(
                self._args.cluster.name, self._args.vpc_id, self._scope.region, self._args.tags
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=needed),
        )


def chart_values(
    cluster_name: pulumi.Input[str], vpc_id: pulumi.Input[str], region: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Values of the chart `aws-load-balancer-controller`."""
    return {
        "clusterName": cluster_name,
        # Without these two it asks the machine's metadata service, which pods cannot reach.
        "region": region,
        "vpcId": vpc_id,
        "replicaCount": 2,
        "podDisruptionBudget": {"maxUnavailable": 1},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "affinity": {"nodeAffinity": NOT_ON_KARPENTER_NODES, "podAntiAffinity": _apart()},
        "tolerations": TOLERATES_SYSTEM_NODES,
        "serviceAccount": {"name": _CHART},
        "defaultTags": dict(tags),
        "ingressClass": INGRESS_CLASS,
        # New certificates at each upgrade would cut the webhooks off while old pods are still there.
        "keepTLSSecret": True,
        # The webhook of Services refuses every new Service while the controller is away, also those of Ray.
        "enableServiceMutatorWebhook": False,
        # What no Ingress of this stack uses, the role may not do either.
        "enableShield": False,
        "enableWaf": False,
        "enableWafv2": False,
        "controllerConfig": {
            "featureGates": {
                "EnableServiceController": False,
                "ALBGatewayAPI": False,
                "NLBGatewayAPI": False,
                "GatewayListenerSet": False,
            }
        },
    }


def _apart() -> dict[str, Any]:
    """The chart's own rule, which it drops where an affinity is given: two pods on two nodes, if possible."""
    labels = {"matchLabels": {"app.kubernetes.io/name": _CHART}}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": labels}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
