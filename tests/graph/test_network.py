"""The VPC: who can reach whom, by which way, and what goes when."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network

import pytest

from offline.delete_order import dependencies
from offline.graph import Graph, Resource
from tests.graph.aws_platform import needs
from tests.graph.network_and_cluster import STACKS, platform, untagged

VPC = "aws:ec2/vpc:Vpc"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
SUBNET = "aws:ec2/subnet:Subnet"
ROUTE = "aws:ec2/route:Route"
TABLE = "aws:ec2/routeTable:RouteTable"
ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
NAT = "aws:ec2/natGateway:NatGateway"
EIP = "aws:ec2/eip:Eip"
INTERNET = "aws:ec2/internetGateway:InternetGateway"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
POD_RANGE = "aws:ec2/vpcIpv4CidrBlockAssociation:VpcIpv4CidrBlockAssociation"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"

both = pytest.mark.parametrize("stack", STACKS)


def subnets(graph: Graph, kind: str) -> list[Resource]:
    return [subnet for subnet in graph.by_type(SUBNET) if subnet.name.startswith(f"network-{kind}-")]


def with_tag(graph: Graph, tag: str) -> dict[str, str]:
    return {
        subnet.name: subnet.inputs["tags"][tag]
        for subnet in graph.by_type(SUBNET)
        if tag in subnet.inputs["tags"]
    }


def target(graph: Graph, resource: Resource, key: str, type_: str) -> Resource:
    """The one resource of a type that an input of another refers to."""
    (urn,) = (urn for urn in resource.property_dependencies[key] if graph.by_urn[urn].type == type_)
    return graph.by_urn[urn]


def default_route(graph: Graph, subnet: Resource) -> Resource:
    """Where traffic of a subnet goes that stays in no known range: a gateway."""
    (association,) = (
        association
        for association in graph.by_type(ASSOCIATION)
        if target(graph, association, "subnetId", SUBNET) == subnet
    )
    table = target(graph, association, "routeTableId", TABLE)
    (route,) = (
        route for route in graph.by_type(ROUTE) if target(graph, route, "routeTableId", TABLE) == table
    )
    assert route.inputs["destinationCidrBlock"] == "0.0.0.0/0"
    (key,) = {"gatewayId", "natGatewayId"} & route.inputs.keys()
    return target(graph, route, key, INTERNET if key == "gatewayId" else NAT)


@both
def test_subnets_share_the_ranges_of_the_vpc_without_overlap(stack: str) -> None:
    graph, network = platform(stack), STACKS[stack]["network"]
    ranges = [IPv4Network(network["cidr"])]
    assert graph.one(VPC).inputs["cidrBlock"] == network["cidr"]
    if "podCidr" in network:
        assert graph.one(POD_RANGE).inputs["cidrBlock"] == network["podCidr"]
        ranges.append(IPv4Network(network["podCidr"]))
    blocks = [IPv4Network(subnet.inputs["cidrBlock"]) for subnet in graph.by_type(SUBNET)]
    assert all(any(block.subnet_of(whole) for whole in ranges) for block in blocks)
    assert not any(first.overlaps(second) for first, second in itertools.combinations(blocks, 2))


@both
def test_every_zone_has_a_subnet_of_each_kind(stack: str) -> None:
    graph = platform(stack)
    kinds = ["public", "private", "control-plane", *(["pods"] if stack == "large" else [])]
    for kind in kinds:
        zones = [subnet.inputs["availabilityZone"] for subnet in subnets(graph, kind)]
        assert zones == STACKS[stack]["zones"]
    assert len(graph.by_type(SUBNET)) == len(kinds) * len(STACKS[stack]["zones"])


@both
def test_nothing_that_starts_gets_a_public_address_by_itself(stack: str) -> None:
    for subnet in platform(stack).by_type(SUBNET):
        assert "mapPublicIpOnLaunch" not in subnet.inputs


@both
def test_load_balancers_are_shown_to_subnets_that_others_can_route_to(stack: str) -> None:
    graph = platform(stack)
    public = {subnet.name: "1" for subnet in subnets(graph, "public")}
    private = {subnet.name: "1" for subnet in subnets(graph, "private")}
    assert with_tag(graph, "kubernetes.io/role/elb") == public
    assert with_tag(graph, "kubernetes.io/role/internal-elb") == private


@pytest.mark.parametrize(
    ("stack", "kind", "name"), [("small", "private", "neuron-serve"), ("large", "pods", "models")]
)
def test_karpenter_finds_the_subnets_of_nodes_and_no_others(stack: str, kind: str, name: str) -> None:
    graph = platform(stack)
    nodes = subnets(graph, kind)
    assert with_tag(graph, "karpenter.sh/discovery") == {subnet.name: name for subnet in nodes}
    node_group = graph.one(NODE_GROUP)
    assert {subnet.urn for subnet in nodes} <= set(node_group.property_dependencies["subnetIds"])
    assert len(node_group.inputs["subnetIds"]) == len(nodes)


@both
def test_public_subnets_reach_the_internet_and_others_a_nat_gateway(stack: str) -> None:
    graph = platform(stack)
    for subnet in graph.by_type(SUBNET):
        kind = INTERNET if subnet in subnets(graph, "public") else NAT
        assert default_route(graph, subnet).type == kind


def test_a_single_nat_gateway_serves_all_zones() -> None:
    graph = platform("small")
    (nat,) = graph.by_type(NAT)
    assert target(graph, nat, "subnetId", SUBNET).name == "network-public-us-west-2a"
    assert {default_route(graph, subnet).urn for subnet in subnets(graph, "private")} == {nat.urn}


@pytest.mark.parametrize("kind", ["private", "control-plane", "pods"])
def test_a_nat_gateway_a_zone_keeps_traffic_in_its_zone(kind: str) -> None:
    graph = platform("large")
    assert len(graph.by_type(EIP)) == len(graph.by_type(NAT)) == 3
    for subnet in subnets(graph, kind):
        nat = default_route(graph, subnet)
        home = target(graph, nat, "subnetId", SUBNET)
        assert home.inputs["availabilityZone"] == subnet.inputs["availabilityZone"]
        assert home in subnets(graph, "public")


@both
def test_s3_is_reached_without_nat_from_every_zone(stack: str) -> None:
    graph = platform(stack)
    endpoint = graph.one(ENDPOINT, "network-s3")
    assert endpoint.inputs["vpcEndpointType"] == "Gateway"
    assert endpoint.inputs["serviceName"] == "com.amazonaws.us-west-2.s3"
    tables = {graph.one(TABLE, f"network-{zone}").urn for zone in STACKS[stack]["zones"]}
    assert tables <= set(endpoint.property_dependencies["routeTableIds"])
    assert len(endpoint.inputs["routeTableIds"]) == len(tables)


def test_endpoints_with_a_price_are_made_on_demand_only() -> None:
    assert [endpoint.name for endpoint in platform("small").by_type(ENDPOINT)] == ["network-s3"]


def test_private_endpoints_answer_to_the_vpc_over_https_and_to_nobody_else() -> None:
    graph = platform("large")
    endpoints = [
        endpoint for endpoint in graph.by_type(ENDPOINT) if endpoint.inputs["vpcEndpointType"] == "Interface"
    ]
    services = {
        endpoint.inputs["serviceName"].removeprefix("com.amazonaws.us-west-2.") for endpoint in endpoints
    }
    assert services == {"ecr.api", "ecr.dkr", "sts", "ec2", "logs"}
    group = graph.one(GROUP)
    for endpoint in endpoints:
        assert endpoint.inputs["privateDnsEnabled"] is True
        assert len(endpoint.inputs["subnetIds"]) == 3
        assert target(graph, endpoint, "securityGroupIds", GROUP) == group
    assert not {"ingress", "egress"} & group.inputs.keys()
    rules = graph.by_type(INGRESS)
    assert [rule.inputs["cidrIpv4"] for rule in rules] == ["10.0.0.0/16", "100.64.0.0/16"]
    for rule in rules:
        assert target(graph, rule, "securityGroupId", GROUP) == group
        assert (rule.inputs["ipProtocol"], rule.inputs["fromPort"], rule.inputs["toPort"]) == (
            "tcp",
            443,
            443,
        )


@both
def test_the_vpcs_default_security_group_lets_nothing_through(stack: str) -> None:
    graph = platform(stack)
    group = graph.one(DEFAULT_GROUP)
    assert target(graph, group, "vpcId", VPC) == graph.one(VPC)
    assert not {"ingress", "egress"} & group.inputs.keys()


@both
def test_nodes_keep_every_way_out_until_they_are_gone(stack: str) -> None:
    graph = platform(stack)
    outside = {
        resource.urn
        for type_ in (NAT, ROUTE, ASSOCIATION, ENDPOINT, INGRESS)
        for resource in graph.by_type(type_)
    }
    assert outside <= dependencies(graph)[graph.one(NODE_GROUP).urn]


@both
def test_addresses_are_given_back_before_the_internet_gateway_is_detached(stack: str) -> None:
    graph = platform(stack)
    way_to_the_internet = [
        graph.one(INTERNET),
        graph.one(ROUTE, "network-public"),
        *(graph.one(ASSOCIATION, subnet.name) for subnet in subnets(graph, "public")),
    ]
    for resource in graph.by_type(NAT) + graph.by_type(EIP):
        assert all(needs(graph, resource, other) for other in way_to_the_internet)


def test_pods_range_outlives_the_subnets_in_it() -> None:
    graph = platform("large")
    for subnet in subnets(graph, "pods"):
        assert graph.one(POD_RANGE).urn in dependencies(graph)[subnet.urn]


@both
def test_everything_of_the_network_is_its_child_and_has_the_stacks_tags(stack: str) -> None:
    graph = platform(stack)
    network = graph.one("neuron-serve:infra:Network")
    made = [
        resource for resource in graph.resources if resource.name.startswith("network") and resource.custom
    ]
    assert made == graph.children(network.urn)
    assert list(untagged(graph, {"stack": "test"})) == []
    names = [resource.inputs["tags"]["Name"] for resource in made if "tags" in resource.inputs]
    assert all(name.startswith(f"{STACKS[stack].get('name', 'neuron-serve')}-") for name in names)
