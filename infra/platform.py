"""What every service stands on: a cluster, the operator, nodes, stores. One function a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from infra import pins
from infra.alarms import Alarms, AlarmsArgs
from infra.artifacts import Artifacts, ArtifactsArgs
from infra.aws_config import Aws
from infra.bucket_layout import BucketLayout
from infra.cluster import EksCluster, EksClusterArgs
from infra.config import StackConfig
from infra.gcs_store import GcsStore, GcsStoreArgs
from infra.image_builds import ImageBuild
from infra.images import Images, ImagesArgs
from infra.in_cluster_store import InClusterStore, InClusterStoreArgs
from infra.ingress import LoadBalancerController, LoadBalancerControllerArgs
from infra.karpenter import Karpenter, KarpenterArgs
from infra.kuberay import KubeRay
from infra.kubernetes import existing_cluster
from infra.monitoring import MonitoringArgs, MonitoringStack
from infra.network import Network, NetworkArgs
from infra.neuron import NeuronDevicePlugin
from infra.scheduling import NOT_ON_KARPENTER_NODES
from infra.secrets_config import Secrets


def _nothing_more(_namespace: str) -> Sequence[pulumi.Resource]:
    return ()


@dataclass(frozen=True)
class Platform:
    """`on_cluster` are the options of every object in the cluster.

    `requirements` are what every pod needs until it is gone, `needed_in` what those of one namespace do.

    `gcs_store` keeps the state of Ray heads, None without one. `load_balancers` is the controller that makes
    them, None where the stack has no ingress. `images` are the stack's own, None without a repository.
    """

    on_cluster: pulumi.ResourceOptions
    requirements: Sequence[pulumi.Resource]
    gcs_store: GcsStore | InClusterStore | None
    needed_in: Callable[[str], Sequence[pulumi.Resource]] = field(default=_nothing_more)
    load_balancers: pulumi.Resource | None = None
    images: Images | None = None

    @property
    def repository_url(self) -> pulumi.Output[str] | None:
        """Where images of one's own can be pushed to, None without a repository."""
        return self.images.repository.repository_url if self.images else None

    def built(self, image: str) -> list[pulumi.Resource]:
        """The build of an image of the stack's own, nothing where it has none of that name."""
        return [self.images.built[image]] if self.images and image in self.images.built else []


def existing_platform(stack: StackConfig, secrets: Secrets) -> Platform:
    """`target: kubernetes`: what is missing on a cluster that exists."""
    opts = existing_cluster(stack.kubeconfig_context)
    operator = [KubeRay(stack.kuberay, opts=opts)] if stack.kuberay.install else []
    _monitoring(stack, opts)
    return Platform(opts, operator, _in_cluster_store(stack, secrets, opts))


def aws_platform(
    stack: StackConfig,
    aws: Aws,
    secrets: Secrets,
    *,
    bucket: BucketLayout,
    builds: Mapping[str, ImageBuild],
) -> Platform:
    """`target: aws`: everything, from the network up."""
    tags = {
        "neuron-serve/stack": pulumi.get_stack(),
        "neuron-serve/cluster": aws.name,
        # The policy pack reads it: policy/model.py.
        "neuron-serve/environment": aws.environment,
    }
    network = Network("network", NetworkArgs(aws.network, aws.zones, aws.name, tags))
    cluster = EksCluster("cluster", EksClusterArgs(aws.cluster, aws.name, aws.environment, network, tags))
    opts = cluster.on_cluster
    karpenter = Karpenter(
        "karpenter",
        KarpenterArgs(
            config=aws.karpenter,
            pools=aws.node_pools,
            zones=aws.zones,
            cluster=cluster,
            cluster_name=aws.name,
            node_subnet_ids=network.node_subnet_ids,
            ami_date=pins.ami_date(aws.karpenter.ami_date, aws.cluster.version),
            tags=tags,
        ),
        opts,
    )
    neuron = NeuronDevicePlugin("neuron", cluster, opts)
    artifacts = Artifacts(
        "artifacts", ArtifactsArgs(aws.artifacts, bucket, cluster.name, list(stack.services), tags)
    )
    images = Images("images", ImagesArgs(aws.name, builds, tags))
    operator = KubeRay(
        stack.kuberay,
        affinity=NOT_ON_KARPENTER_NODES,
        needs=[cluster.system_nodes, *cluster.ready, *network.egress],
        opts=opts,
    )
    _monitoring(stack, opts, needs=[*cluster.ready, *network.egress])
    on_nodes = pulumi.ResourceOptions.merge(
        opts, pulumi.ResourceOptions(depends_on=[*cluster.ready, *karpenter.pools.values()])
    )
    store = _store(stack, secrets, network, cluster, tags)
    _alarms(stack, aws, store, tags)
    return Platform(
        on_cluster=opts,
        requirements=[operator, *karpenter.pools.values(), neuron.device_plugin],
        gcs_store=store or _in_cluster_store(stack, secrets, on_nodes),
        needed_in=lambda namespace: [
            *artifacts.needed_in(namespace),
            images.source_of(stack.services[namespace]),
        ],
        images=images,
        load_balancers=_load_balancers(aws, network, cluster, tags, opts),
    )


def _store(
    stack: StackConfig, secrets: Secrets, network: Network, cluster: EksCluster, tags: dict[str, str]
) -> GcsStore | None:
    if stack.store.kind != "elasticache":
        return None
    return GcsStore(
        "gcs-store",
        GcsStoreArgs(
            config=stack.store,
            vpc_id=network.vpc_id,
            subnet_ids=network.private_subnet_ids,
            client_security_group_id=cluster.security_group_id,
            auth_token=secrets.gcs_store_auth_token,
            tags=tags,
        ),
    )


def _in_cluster_store(
    stack: StackConfig, secrets: Secrets, opts: pulumi.ResourceOptions
) -> InClusterStore | None:
    if stack.store.kind != "inCluster":
        return None
    args = InClusterStoreArgs(stack.store.image, list(stack.services), secrets.gcs_store_auth_token)
    return InClusterStore(args, opts)


def _monitoring(
    stack: StackConfig, opts: pulumi.ResourceOptions, needs: Sequence[pulumi.Resource] = ()
) -> None:
    if stack.monitoring.enabled:
        on_aws = stack.aws is not None
        MonitoringStack(MonitoringArgs(stack.monitoring, list(stack.services), on_aws, needs), opts)


def _alarms(stack: StackConfig, aws: Aws, store: GcsStore | None, tags: dict[str, str]) -> None:
    if aws.alarms.notify:
        certificate = aws.ingress.certificate_arn if aws.ingress.enabled else None
        Alarms("alarms", AlarmsArgs(aws.alarms, aws.name, store, stack.store.nodes, certificate, tags))


def _load_balancers(
    aws: Aws, network: Network, cluster: EksCluster, tags: dict[str, str], opts: pulumi.ResourceOptions
) -> pulumi.Resource | None:
    if not aws.ingress.enabled:
        return None
    args = LoadBalancerControllerArgs(cluster, aws.name, network.vpc_id, tags)
    return LoadBalancerController("load-balancers", args, opts).release
