"""A small stack on AWS from the real components: network, cluster, node pools, a model and the way to it."""

from __future__ import annotations

from pathlib import Path

from offline.delete_order import dependencies
from offline.graph import Graph, Resource

_CHECKOUT = Path(__file__).resolve().parents[2]

PROGRAM = f"""
    import sys
    sys.path.append({str(_CHECKOUT)!r})
    import pulumi
    from infra import pins
    from infra.cluster import EksCluster, EksClusterArgs
    from infra.config import Secrets, StackConfig
    from infra.image_builds import service_images
    from infra.ingress import LoadBalancerController, LoadBalancerControllerArgs
    from infra.karpenter import Karpenter, KarpenterArgs
    from infra.network import Network, NetworkArgs
    from infra.neuron import NeuronDevicePlugin
    from workloads.api_keys import StackApiKeys
    from workloads.ingress import ServiceIngress, ServiceIngressArgs, plan_ingresses
    from workloads.ray_service import RayService, RayServiceArgs
    from workloads.service_plan import plan_services

    stack = StackConfig.model_validate(pulumi.Config().require_object("stack"))
    api_key = pulumi.Output.secret("0123456789abcdef0123")
    api_keys = StackApiKeys(api_key, api_key)
    aws, tags = stack.aws, {{"project": "demo"}}
    network = Network("network", NetworkArgs(aws.network, aws.zones, aws.name, tags))
    cluster = EksCluster("cluster", EksClusterArgs(aws.cluster, aws.name, aws.environment, network, tags))
    on_cluster = pulumi.ResourceOptions(providers=[cluster.provider])
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
        opts=on_cluster,
    )
    neuron = NeuronDevicePlugin("neuron", cluster, opts=on_cluster)
    controller = LoadBalancerController(
        "load-balancers", LoadBalancerControllerArgs(cluster, aws.name, network.vpc_id, tags), opts=on_cluster
    )
    ingresses = plan_ingresses(stack)
    images = service_images(stack, {{}})
    platform = [*karpenter.pools.values(), neuron.device_plugin]
    for name, plan in plan_services(stack, Secrets(api_keys=api_key), bucket=None, images=images).items():
        service = RayService(
            name,
            RayServiceArgs(plan=plan, api_keys=api_keys, hugging_face_token=None, platform=platform),
            opts=on_cluster,
        )
        args = ServiceIngressArgs(ingresses[name], service, controller.release)
        ingress = ServiceIngress(name, args, opts=on_cluster)
        pulumi.export(name, [ingress.url, ingress.load_balancer])
"""

CONFIG = """
    config:
      demo:stack:
        target: aws
        gcsStore: {kind: none}
        aws:
          zones: [us-west-2a, us-west-2b]
          cluster: {version: "1.34"}
          karpenter: {amiDate: "20261105"}
          nodePools:
            - {name: inf2, instanceTypes: [inf2.8xlarge, inf2.24xlarge], maxNeuronDevices: 12}
            - name: reserved
              instanceTypes: [trn1.32xlarge]
              capacityTypes: [reserved]
              capacityReservations: [cr-0a1b]
              maxNeuronDevices: 16
              zones: [us-west-2b]
          ingress:
            enabled: true
            certificateArn: arn:aws:acm:us-west-2:123456789012:certificate/0a1b
            host: models.example.com
        services:
          chat:
            app: llm
            model: mistralai/Mistral-7B-Instruct-v0.2
            accelerator: neuron
            instanceType: inf2.8xlarge
            tensorParallel: 2
            image: registry.example/neuron:1
"""


def needs(graph: Graph, resource: Resource, other: Resource) -> bool:
    """Whether one resource is deleted before another, whatever lies between them."""
    edges = dependencies(graph)
    seen: set[str] = set()
    waiting = list(edges[resource.urn])
    while waiting:
        urn = waiting.pop()
        if urn not in seen:
            seen.add(urn)
            waiting.extend(edges[urn])
    return other.urn in seen
