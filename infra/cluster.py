"""The EKS cluster, up to the point where controllers can be installed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s

from infra import cluster_config
from infra.aws_scope import current_scope
from infra.encryption_key import encryption_key
from infra.iam import assumed_by_pods, assumed_by_service
from infra.kubernetes import own_cluster
from infra.network import Network
from infra.pins import AddOn, addon_version, node_release_version

_LOG_TYPES = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
# Controllers write little; most of a system node's disk is images.
_SYSTEM_DISK_GIB = 50
# By default a node holds the addresses of a whole spare interface, 50 on the larger Neuron instances, which
# carry few pods (https://github.com/aws/amazon-vpc-cni-k8s/blob/master/docs/eni-and-ip-target.md).
_CNI_SETTINGS = {
    "enableNetworkPolicy": "true",
    "env": {"MINIMUM_IP_TARGET": "10", "WARM_IP_TARGET": "4"},
}


@dataclass(frozen=True)
class EksClusterArgs:
    """`cluster_name` is the name in EKS; `tags` go on everything."""

    config: cluster_config.Cluster
    cluster_name: str
    environment: Literal["dev", "prod"]
    network: Network
    tags: Mapping[str, str]


class EksCluster(pulumi.ComponentResource):
    """An EKS cluster with its system nodes and add-ons. Its resources:

    - KMS Key for Kubernetes secrets
    - LogGroup of the control plane, which EKS would otherwise make and leave behind
    - eks.Cluster: the control plane, its role, and access entries of the admins; no nodes, no security groups
      (everything shares the group that EKS creates) and no add-ons
    - Addons: before the nodes vpc-cni, kube-proxy and eks-pod-identity-agent; after them coredns,
      aws-ebs-csi-driver and metrics-server; with Roles of the two whose pods call AWS
    - LaunchTemplate, Role and NodeGroup of the system nodes, where controllers run
    - Kubernetes Provider, and the default StorageClass

    pulumi-eks would make vpc-cni, kube-proxy and coredns itself, out of sight: nothing could depend on one of
    them, and its coredns needs its node group. EKS would install all three without an owner. Both are told
    not to, so that each add-on has one owner, here.
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    """The group that EKS creates, of the control plane, of every node, and so of every pod."""
    on_cluster: pulumi.ResourceOptions
    """Options of every object in the cluster."""
    system_nodes: pulumi.Resource
    ready: list[pulumi.Resource]
    """What a controller needs to run, until it is gone: nodes, names, credentials."""

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:EksCluster", name, None, opts)
        self._name = name
        self._args = args
        self._own = pulumi.ResourceOptions(parent=self)
        self._scope = current_scope(args.cluster_name, self)

        control_plane = self._control_plane(self._secrets_key(), self._log_group())
        self.name = control_plane.eks_cluster.apply(lambda cluster: cluster.name)
        self.arn = control_plane.eks_cluster.apply(lambda cluster: cluster.arn)
        self.endpoint = control_plane.eks_cluster.apply(lambda cluster: cluster.endpoint)
        self.security_group_id = control_plane.cluster_security_group_id

        pod_identity_agent = self._add_on("eks-pod-identity-agent")
        before_nodes = [self._vpc_cni(), self._add_on("kube-proxy"), pod_identity_agent]
        self.system_nodes = self._system_nodes(before_nodes)
        coredns = self._add_on("coredns", after=[self.system_nodes])
        self._add_on("metrics-server", after=[self.system_nodes])
        ebs_csi = self._ebs_csi()

        self.on_cluster = own_cluster(
            f"{self._name}-kubernetes", control_plane.kubeconfig_json, self.arn, parent=self
        )
        self._default_storage_class(ebs_csi)
        self.ready = [self.system_nodes, coredns, pod_identity_agent]
        self.register_outputs({"name": self.name, "arn": self.arn})

    def _tags(self, name: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._args.cluster_name}-{name}"}

    def _secrets_key(self) -> aws.kms.Key:
        return encryption_key(
            f"{self._name}-secrets",
            description=f"Kubernetes secrets of {self._args.cluster_name}",
            tags=self._tags("secrets"),
            opts=self._own,
        )

    def _log_group(self) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            f"{self._name}-control-plane",
            # EKS writes to this name and to no other.
            name=f"/aws/eks/{self._args.cluster_name}/cluster",
            retention_in_days=self._args.config.log_retention_days,
            tags=self._tags("control-plane"),
            opts=self._own,
        )

    def _control_plane(self, key: aws.kms.Key, log_group: aws.cloudwatch.LogGroup) -> eks.Cluster:
        config, network = self._args.config, self._args.network
        if not config.public_access_cidrs:
            pulumi.log.warn(
                "publicAccessCidrs is empty: the API server of the cluster can be reached only from its VPC, "
                "which is where this stack must be deployed from",
                self,
            )
        return eks.Cluster(
            self._name,
            name=self._args.cluster_name,
            version=config.version,
            vpc_id=network.vpc_id,
            subnet_ids=network.control_plane_subnet_ids,
            endpoint_private_access=True,
            endpoint_public_access=bool(config.public_access_cidrs),
            public_access_cidrs=config.public_access_cidrs or None,
            authentication_mode=eks.AuthenticationMode.API,
            access_entries=_access_entries(config.admins, self._scope.partition, self._args.tags),
            encryption_config_key_arn=key.arn,
            enabled_cluster_log_types=_LOG_TYPES,
            # A version at the end of its standard support: production pays to keep it, development is
            # upgraded by EKS.
            upgrade_policy={"support_type": "EXTENDED" if self._args.environment == "prod" else "STANDARD"},
            create_oidc_provider=False,
            skip_default_node_group=True,
            # With the default groups, managed nodes and Karpenter's end up in different ones, which cuts DNS
            # and the store off from one kind (https://github.com/pulumi/pulumi-eks/issues/1275).
            skip_default_security_groups=True,
            bootstrap_self_managed_addons=False,
            use_default_vpc_cni=True,
            kube_proxy_addon_options={"enabled": False},
            coredns_addon_options={"enabled": False},
            tags=dict(self._args.tags),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[log_group]),
        )

    def _add_on(
        self,
        add_on: AddOn,
        *,
        settings: Mapping[str, object] | None = None,
        role: aws.iam.Role | None = None,
        service_account: str | None = None,
        after: Sequence[pulumi.Resource] = (),
    ) -> aws.eks.Addon:
        """An add-on; `role`, where given, becomes the credentials of the pods of `service_account`."""
        return aws.eks.Addon(
            f"{self._name}-{add_on}",
            cluster_name=self.name,
            addon_name=add_on,
            addon_version=addon_version(add_on, self._args.config),
            configuration_values=json.dumps(settings) if settings else None,
            pod_identity_associations=[{"role_arn": role.arn, "service_account": service_account}]
            if role and service_account
            else None,
            # What is configured here holds, whatever an interrupted run or a hand left in the cluster.
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            tags=self._tags(add_on),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )

    def _vpc_cni(self) -> aws.eks.Addon:
        role, policies = self._role("vpc-cni", assumed_by_pods(), ["AmazonEKS_CNI_Policy"])
        return self._add_on(
            "vpc-cni", settings=_CNI_SETTINGS, role=role, service_account="aws-node", after=policies
        )

    def _ebs_csi(self) -> aws.eks.Addon:
        role, policies = self._role("ebs-csi", assumed_by_pods(), ["service-role/AmazonEBSCSIDriverPolicy"])
        return self._add_on(
            "aws-ebs-csi-driver",
            role=role,
            service_account="ebs-csi-controller-sa",
            after=[self.system_nodes, *policies],
        )

    def _role(
        self, name: str, trust: str, managed_policies: Sequence[str]
    ) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        """A role, and its policies, which whoever uses the role has to wait for."""
        role = aws.iam.Role(
            f"{self._name}-{name}", assume_role_policy=trust, tags=self._tags(name), opts=self._own
        )
        return role, [
            aws.iam.RolePolicyAttachment(
                f"{self._name}-{name}-{policy.rpartition('/')[2]}",
                role=role.name,
                policy_arn=self._scope.managed_policy_arn(policy),
                opts=self._own,
            )
            for policy in managed_policies
        ]

    def _system_nodes(self, add_ons: Sequence[pulumi.Resource]) -> aws.eks.NodeGroup:
        config, network = self._args.config, self._args.network
        # Without AmazonEKS_CNI_Policy, because vpc-cni has a role of its own.
        role, policies = self._role(
            "system-nodes",
            assumed_by_service("ec2.amazonaws.com"),
            ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"],
        )
        template = self._launch_template()
        return aws.eks.NodeGroup(
            f"{self._name}-system",
            cluster_name=self.name,
            version=config.version,
            release_version=node_release_version(config),
            ami_type="AL2023_x86_64_STANDARD",
            instance_types=[config.system_nodes.instance_type],
            node_role_arn=role.arn,
            subnet_ids=network.node_subnet_ids,
            scaling_config={
                "min_size": config.system_nodes.count,
                "max_size": config.system_nodes.count,
                "desired_size": config.system_nodes.count,
            },
            update_config={"max_unavailable": 1},
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            tags=self._tags("system"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*policies, *add_ons, *network.egress]),
        )

    def _launch_template(self) -> aws.ec2.LaunchTemplate:
        tags = self._tags("system")
        return aws.ec2.LaunchTemplate(
            f"{self._name}-system",
            update_default_version=True,
            # One hop reaches the node and none of its pods, which have roles of their own or none.
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
            },
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "volume_type": "gp3",
                        "volume_size": _SYSTEM_DISK_GIB,
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            # A node group's tags stay on the group; what it starts is tagged from here.
            tag_specifications=[
                {"resource_type": resource, "tags": tags}
                for resource in ("instance", "volume", "network-interface")
            ],
            tags=tags,
            opts=self._own,
        )

    def _default_storage_class(self, ebs_csi: aws.eks.Addon) -> None:
        k8s.storage.v1.StorageClass(
            f"{self._name}-gp3",
            metadata={
                "name": "gp3",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true"},
            reclaim_policy="Delete",
            allow_volume_expansion=True,
            # A volume exists in one zone: the pod is placed first.
            volume_binding_mode="WaitForFirstConsumer",
            opts=pulumi.ResourceOptions.merge(
                self.on_cluster, pulumi.ResourceOptions(parent=self, depends_on=[ebs_csi])
            ),
        )


def _access_entries(
    admins: Sequence[str], partition: str, tags: Mapping[str, str]
) -> dict[str, eks.AccessEntryArgsDict]:
    """By a name made from the ARN, so that a change of one admin does not touch the others."""
    policy = f"arn:{partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
    return {
        re.sub("[^A-Za-z0-9]+", "-", arn.split(":", 4)[4]): {
            "principal_arn": arn,
            "access_policies": {"admin": {"policy_arn": policy, "access_scope": {"type": "cluster"}}},
            "tags": dict(tags),
        }
        for arn in admins
    }
