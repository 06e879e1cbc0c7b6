"""Rules about who may come in: security groups, the Kubernetes API, load balancers."""

from __future__ import annotations

from collections.abc import Iterator

from policy.model import Resource, Rule, as_dict, as_list, is_false

_ANYWHERE = ("0.0.0.0/0", "::/0")
_LOAD_BALANCERS = ("aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer")


def no_open_ingress(resource: Resource) -> Iterator[str]:
    """A rule on its own, or one inside a security group."""
    if resource.type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
        cidrs = [resource.at("cidrIpv4"), resource.at("cidrIpv6")]
        ports = [resource.at("fromPort"), resource.at("toPort")]
        yield from _open(cidrs, ports)
    elif resource.type == "aws:ec2/securityGroupRule:SecurityGroupRule" and resource.at("type") == "ingress":
        cidrs = as_list(resource.at("cidrBlocks")) + as_list(resource.at("ipv6CidrBlocks"))
        yield from _open(cidrs, [resource.at("fromPort"), resource.at("toPort")])
    elif resource.type in (
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    ):
        for entry in map(as_dict, as_list(resource.at("ingress"))):
            cidrs = as_list(entry.get("cidrBlocks")) + as_list(entry.get("ipv6CidrBlocks"))
            yield from _open(cidrs, [entry.get("fromPort"), entry.get("toPort")])


def _open(cidrs: list[object], ports: list[object]) -> Iterator[str]:
    for cidr in cidrs:
        if cidr in _ANYWHERE:
            first, last = ports
            where = (
                "every port"
                if first in (None, -1, 0) and last in (None, -1, 0, 65535)
                else f"ports {first}-{last}"
            )
            yield f"{cidr} may reach {where}"


def private_kubernetes_api(resource: Resource) -> Iterator[str]:
    """The component and the cluster inside it, which Pulumi's analyzer sees as well."""
    if resource.type == "eks:index:Cluster":
        settings = resource.props
    elif resource.type == "aws:eks/cluster:Cluster":
        settings = as_dict(resource.at("vpcConfig"))
    else:
        return
    # Without a word AWS opens the endpoint to everybody.
    if is_false(settings.get("endpointPublicAccess", True)):
        return
    ranges = settings.get("publicAccessCidrs")
    if ranges is None:
        yield "the Kubernetes API is open to the internet: publicAccessCidrs is not set"
    for cidr in as_list(ranges):
        if cidr in _ANYWHERE:
            yield f"the Kubernetes API is open to {cidr}"


def internal_load_balancers(resource: Resource) -> Iterator[str]:
    """Load balancers of Kubernetes objects, and such as the program makes itself."""
    annotations = as_dict(resource.at("metadata.annotations"))
    if resource.type.startswith("kubernetes:networking.k8s.io/") and resource.type.endswith(":Ingress"):
        # Without a word the AWS Load Balancer Controller makes an internal one.
        if annotations.get("alb.ingress.kubernetes.io/scheme", "internal") != "internal":
            yield "the Ingress asks for a load balancer that faces the internet"
    elif resource.type == "kubernetes:core/v1:Service" and resource.at("spec.type") == "LoadBalancer":
        scheme = annotations.get("service.beta.kubernetes.io/aws-load-balancer-scheme")
        internal = annotations.get("service.beta.kubernetes.io/aws-load-balancer-internal")
        if scheme != "internal" and is_false(internal):
            yield "the Service asks for a load balancer without saying that it is internal"
    elif resource.type in _LOAD_BALANCERS and is_false(resource.at("internal")):
        yield "the load balancer faces the internet"


RULES = [
    Rule(
        name="no-open-ingress",
        description="No security group lets the whole internet in.",
        why="What listens behind it is found by scanners within minutes.",
        way_out="name the ranges that need it, or refer to a security group",
        check=no_open_ingress,
    ),
    Rule(
        name="private-kubernetes-api",
        description="The Kubernetes API is private, or open to named ranges only.",
        why="Whoever holds a leaked token must still come from somewhere known.",
        way_out="name your own ranges in aws.cluster.publicAccessCidrs; none makes the endpoint private",
        check=private_kubernetes_api,
    ),
    Rule(
        name="internal-load-balancers",
        description="Load balancers are internal.",
        why="A model behind a public address answers, and costs, for everybody.",
        way_out="set the scheme to internal and reach it over a VPN or a peering",
        check=internal_load_balancers,
    ),
]
