"""Nodes on demand: Karpenter, and the pools it may start nodes for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from infra import aws_config, node_pools, versions
from infra.aws_scope import current_scope
from infra.cluster import EksCluster
from infra.iam import allow, assumed_by_pods, assumed_by_service
from infra.interruption import InterruptionQueue, InterruptionQueueArgs
from infra.karpenter_policies import controller_policies

_NAMESPACE = "kube-system"
_SERVICE_ACCOUNT = "karpenter"
_INSTALL_TIMEOUT_S = 600
# A pool is gone when its last machine is, and a pod that refuses to go may hold a machine for a while.
_POOL_DELETE_TIMEOUT = "30m"

# https://docs.aws.amazon.com/eks/latest/userguide/create-node-role.html, without the policy of the network
# add-on, which has a role of its own.
_NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")


@dataclass(frozen=True)
class KarpenterArgs:
    """`zones` are the stack's, `ami_date` (YYYYMMDD) names the node images' release."""

    config: aws_config.Karpenter
    pools: Sequence[aws_config.NodePool]
    zones: Sequence[str]
    cluster: EksCluster
    cluster_name: str
    node_subnet_ids: Sequence[pulumi.Input[str]]
    ami_date: pulumi.Input[str]
    tags: Mapping[str, str]


class Karpenter(pulumi.ComponentResource):
    """Starts a node when a pod has none, and ends it when it is empty. Its resources:

    - IAM role of the nodes with AWS's policies for workers, and its access entry
    - InterruptionQueue
    - IAM role of the controller with one policy a concern, and its Pod Identity association
    - Helm releases `karpenter-crd` and `karpenter`
    - an EC2NodeClass and a NodePool for each configured pool, and for the general one
    """

    pools: dict[str, pulumi.Resource]
    """NodePools by name: what needs a node of a pool depends on it."""

    def __init__(self, name: str, args: KarpenterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Karpenter", name, None, opts)
        self._name = name
        self._args = args
        self._own = pulumi.ResourceOptions(parent=self)
        self._scope = current_scope(args.cluster_name, self)
        node_role, nodes_may_join = self._node_role()
        queue = InterruptionQueue(
            f"{name}-interruption",
            InterruptionQueueArgs(self._scope.account_id, self._tags("interruption")),
            opts=self._own,
        )
        controller_may_act = self._controller_role(node_role, queue)
        release = self._release(queue, [*nodes_may_join, queue, *controller_may_act])
        self.pools = self._pools(node_role, release)
        self.register_outputs({"pools": sorted(self.pools)})

    def _tags(self, name: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._args.cluster_name}-{name}"}

    def _node_role(self) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        """The role of the nodes, and what makes it good for joining the cluster."""
        role = aws.iam.Role(
            f"{self._name}-node",
            description=f"Nodes that Karpenter starts for {self._args.cluster_name}",
            assume_role_policy=assumed_by_service("ec2.amazonaws.com"),
            tags=self._tags("node"),
            opts=self._own,
        )
        attachments = [
            aws.iam.RolePolicyAttachment(
                f"{self._name}-node-{policy}",
                role=role.name,
                policy_arn=self._scope.managed_policy_arn(policy),
                opts=self._own,
            )
            for policy in _NODE_POLICIES
        ]
        access = aws.eks.AccessEntry(
            f"{self._name}-node",
            cluster_name=self._args.cluster.name,
            principal_arn=role.arn,
            type="EC2_LINUX",
            tags=self._tags("node"),
            opts=self._own,
        )
        return role, [*attachments, access]

    def _controller_role(self, node_role: aws.iam.Role, queue: InterruptionQueue) -> list[pulumi.Resource]:
        """Everything that the controller's pods need before they start."""
        role = aws.iam.Role(
            f"{self._name}-controller",
            description=f"Karpenter's controller in {self._args.cluster_name}",
            assume_role_policy=assumed_by_pods(),
            tags=self._tags("karpenter"),
            opts=self._own,
        )
        documents = controller_policies(self._scope, node_role_arn=node_role.arn, queue_arn=queue.arn)
        policies = [
            aws.iam.RolePolicy(
                f"{self._name}-{concern}", role=role.name, policy=allow(*statements), opts=self._own
            )
            for concern, statements in documents.items()
        ]
        association = aws.eks.PodIdentityAssociation(
            f"{self._name}-controller",
            cluster_name=self._args.cluster.name,
            namespace=_NAMESPACE,
            service_account=_SERVICE_ACCOUNT,
            role_arn=role.arn,
            tags=self._tags("karpenter"),
            opts=self._own,
        )
        return [*policies, association]

    def _release(self, queue: InterruptionQueue, needed: Sequence[pulumi.Resource]) -> k8s.helm.v3.Release:
        cluster = self._args.cluster
        crds = self._chart("karpenter-crd")
        # The chart's own copy of the CRDs would neither be updated nor removed with it.
        return self._chart(
            "karpenter",
            chart_values(cluster.name, cluster.endpoint, queue.name, self._scope.region),
            skip_crds=True,
            depends_on=[crds, *needed, *cluster.ready],
        )

    def _chart(
        self,
        chart: str,
        values: dict[str, Any] | None = None,
        *,
        skip_crds: bool = False,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            f"{self._name}-{chart}",
            name=chart,
            chart=f"{versions.KARPENTER_CHARTS}/{chart}",
            version=versions.KARPENTER,
            namespace=_NAMESPACE,
            atomic=True,
            timeout=_INSTALL_TIMEOUT_S,
            skip_crds=skip_crds,
            values=values or {},
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(depends_on)),
        )

    def _pools(self, node_role: aws.iam.Role, release: k8s.helm.v3.Release) -> dict[str, pulumi.Resource]:
        args = self._args
        shared = node_pools.shared_node_class(
            ami_alias=pulumi.Output.concat("al2023@v", args.ami_date),
            node_role=node_role.name,
            subnet_ids=args.node_subnet_ids,
            security_group_id=args.cluster.security_group_id,
            tags=args.tags,
        )
        specs = {
            pool.name: (
                node_pools.neuron_node_class(pool, shared),
                node_pools.neuron_node_pool(pool, args.zones),
            )
            for pool in args.pools
        }
        specs[aws_config.GENERAL_POOL] = (
            node_pools.general_node_class(shared),
            node_pools.general_node_pool(args.config, args.zones),
        )
        return {
            pool: self._pool(pool, node_class, node_pool, release)
            for pool, (node_class, node_pool) in specs.items()
        }

    def _pool(
        self, pool: str, node_class: dict[str, Any], node_pool: dict[str, Any], release: k8s.helm.v3.Release
    ) -> pulumi.Resource:
        machines = k8s.apiextensions.CustomResource(
            f"{self._name}-{pool}-nodes",
            api_version="karpenter.k8s.aws/v1",
            kind="EC2NodeClass",
            metadata={
                "name": pool,
                # An image date that does not exist, or a reservation that is not there, is said now and not
                # when the first pod waits for a node.
                "annotations": {"pulumi.com/waitFor": "condition=Ready"},
            },
            spec=node_class,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[release]),
        )
        return k8s.apiextensions.CustomResource(
            f"{self._name}-{pool}",
            api_version="karpenter.sh/v1",
            kind="NodePool",
            metadata={"name": pool},
            spec=node_pool,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[machines],
                custom_timeouts=pulumi.CustomTimeouts(delete=_POOL_DELETE_TIMEOUT),
            ),
        )


def chart_values(
    cluster_name: pulumi.Input[str],
    endpoint: pulumi.Input[str],
    queue_name: pulumi.Input[str],
    region: str,
) -> dict[str, Any]:
    """Values of the chart `karpenter`.

    The chart itself keeps the pods off nodes that Karpenter started, apart from each other, and on nodes that
    are reserved for controllers.
    """
    return {
        "replicas": 2,
        "serviceAccount": {"name": _SERVICE_ACCOUNT},
        "settings": {
            "clusterName": cluster_name,
            "clusterEndpoint": endpoint,
            "interruptionQueue": queue_name,
        },
        "controller": {
            # Otherwise it asks the machine's metadata service, which pods cannot reach.
            "env": [{"name": "AWS_REGION", "value": region}],
            # Half of what Karpenter's guide gives it, whose clusters are larger than a few pools.
            "resources": {
                "requests": {"cpu": "500m", "memory": "1Gi"},
                "limits": {"memory": "1Gi"},
            },
        },
    }
