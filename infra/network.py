"""The VPC: where everything of the stack runs, and its ways to the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_aws as aws

from infra import network_config
from infra.subnets import ZoneSubnets, plan_subnets

_ANYWHERE = "0.0.0.0/0"
_HTTPS_PORT = 443
# Where the AWS Load Balancer Controller may put load balancers
# (https://docs.aws.amazon.com/eks/latest/userguide/network-load-balancing.html).
_FOR_PUBLIC_BALANCERS = {"kubernetes.io/role/elb": "1"}
_FOR_INTERNAL_BALANCERS = {"kubernetes.io/role/internal-elb": "1"}


@dataclass(frozen=True)
class NetworkArgs:
    """`cluster_name` is what Karpenter finds its subnets by; `tags` go on everything."""

    config: network_config.Network
    zones: Sequence[str]
    cluster_name: str
    tags: Mapping[str, str]


class Network(pulumi.ComponentResource):
    """A VPC over the stack's zones. Its resources:

    - Vpc, its second address range where pods have their own, and its default security group without rules
    - Subnets of each zone: public (load balancers, NAT), private (load balancers, stores; nodes as well where
      they have no range of their own), control plane, and pods where they have a range
    - InternetGateway, and one NatGateway with its address, or one a zone
    - RouteTables: one for the public subnets, one a zone for the others, with routes and associations
    - VpcEndpoint for S3, which costs nothing, and where configured those that have a price
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: list[pulumi.Output[str]]
    """One a zone, with a route to the internet."""
    private_subnet_ids: list[pulumi.Output[str]]
    """One a zone, in the VPC's first range, which other networks can route to."""
    control_plane_subnet_ids: list[pulumi.Output[str]]
    """One a zone, for the interfaces of the EKS control plane and nothing else."""
    node_subnet_ids: list[pulumi.Output[str]]
    """One a zone, for nodes and pods; Karpenter finds them by their tag."""
    egress: list[pulumi.Resource]
    """What a node needs to reach anything outside its subnet, until it is gone."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Network", name, None, opts)
        self._name = name
        self._args = args
        self._own = pulumi.ResourceOptions(parent=self)
        self.egress = []
        vpc = self._vpc()
        self.vpc_id = vpc.id

        plan = plan_subnets(args.config.cidr, args.config.pod_cidr, args.zones)
        public = self._subnets("public", {zone.zone: zone.public for zone in plan}, _FOR_PUBLIC_BALANCERS)
        control_plane = self._subnets("control-plane", {zone.zone: zone.control_plane for zone in plan})
        pods = self._pod_subnets(plan)
        private = self._subnets(
            "private",
            {zone.zone: zone.private for zone in plan},
            _FOR_INTERNAL_BALANCERS if pods else _FOR_INTERNAL_BALANCERS | self._for_nodes,
        )

        nat_gateways = self._nat_gateways(public, self._internet_routes(public))
        tables = self._zone_route_tables(nat_gateways)
        for kind, subnets in {"private": private, "control-plane": control_plane, "pods": pods}.items():
            for zone, subnet in subnets.items():
                self._associate(f"{kind}-{zone}", subnet, tables[zone])
        self._s3_endpoint(tables)
        if args.config.interface_endpoints:
            self._interface_endpoints(private)

        self.public_subnet_ids = [subnet.id for subnet in public.values()]
        self.control_plane_subnet_ids = [subnet.id for subnet in control_plane.values()]
        self.private_subnet_ids = [subnet.id for subnet in private.values()]
        self.node_subnet_ids = [subnet.id for subnet in (pods or private).values()]
        self.register_outputs({"vpc_id": self.vpc_id})

    @property
    def _for_nodes(self) -> dict[str, str]:
        return {"karpenter.sh/discovery": self._args.cluster_name}

    def _tags(self, name: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._args.cluster_name}-{name}"}

    def _vpc(self) -> aws.ec2.Vpc:
        vpc = aws.ec2.Vpc(
            self._name,
            cidr_block=self._args.config.cidr,
            # EKS nodes register by their DNS names, and private endpoints are found through DNS.
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=self._tags("vpc"),
            opts=self._own,
        )
        # Every VPC has a group that lets its members talk. Nothing of the stack is in it; without rules, what
        # lands in it by mistake is cut off.
        aws.ec2.DefaultSecurityGroup(
            f"{self._name}-default", vpc_id=vpc.id, tags=self._tags("default"), opts=self._own
        )
        return vpc

    def _subnets(
        self,
        kind: str,
        ranges: Mapping[str, IPv4Network],
        tags: Mapping[str, str] | None = None,
        vpc_id: pulumi.Output[str] | None = None,
    ) -> dict[str, aws.ec2.Subnet]:
        """Subnets by zone. None hands out public addresses: load balancers and NAT bring their own."""
        return {
            zone: aws.ec2.Subnet(
                f"{self._name}-{kind}-{zone}",
                vpc_id=vpc_id or self.vpc_id,
                availability_zone=zone,
                cidr_block=str(range_),
                tags={**self._tags(f"{kind}-{zone}"), **(tags or {})},
                opts=self._own,
            )
            for zone, range_ in ranges.items()
        }

    def _pod_subnets(self, plan: Sequence[ZoneSubnets]) -> dict[str, aws.ec2.Subnet]:
        """Subnets in the second range of the VPC; empty where it has none."""
        if self._args.config.pod_cidr is None:
            return {}
        range_ = aws.ec2.VpcIpv4CidrBlockAssociation(
            f"{self._name}-pods",
            vpc_id=self.vpc_id,
            cidr_block=self._args.config.pod_cidr,
            opts=self._own,
        )
        ranges = {zone.zone: zone.pods for zone in plan if zone.pods is not None}
        return self._subnets("pods", ranges, self._for_nodes, range_.vpc_id)

    def _internet_routes(self, public: Mapping[str, aws.ec2.Subnet]) -> list[pulumi.Resource]:
        """The public subnets' way to the internet, which NAT gateways need as long as they exist."""
        gateway = aws.ec2.InternetGateway(
            self._name, vpc_id=self.vpc_id, tags=self._tags("internet"), opts=self._own
        )
        table = aws.ec2.RouteTable(
            f"{self._name}-public", vpc_id=self.vpc_id, tags=self._tags("public"), opts=self._own
        )
        route = aws.ec2.Route(
            f"{self._name}-public",
            route_table_id=table.id,
            destination_cidr_block=_ANYWHERE,
            gateway_id=gateway.id,
            opts=self._own,
        )
        associations = [self._associate(f"public-{zone}", subnet, table) for zone, subnet in public.items()]
        self.egress.append(route)
        return [route, *associations]

    def _nat_gateways(
        self, public: Mapping[str, aws.ec2.Subnet], internet_routes: Sequence[pulumi.Resource]
    ) -> dict[str, aws.ec2.NatGateway]:
        """By zone, the gateway that its nodes use: the zone's own, or that of the first zone for all."""
        first = next(iter(public))
        homes = public if self._args.config.nat_gateways == "per-zone" else {first: public[first]}
        gateways = {zone: self._nat_gateway(zone, subnet, internet_routes) for zone, subnet in homes.items()}
        self.egress.extend(gateways.values())
        return {zone: gateways.get(zone, gateways[first]) for zone in public}

    def _nat_gateway(
        self, zone: str, subnet: aws.ec2.Subnet, internet_routes: Sequence[pulumi.Resource]
    ) -> aws.ec2.NatGateway:
        # An address in use keeps the internet gateway from being detached, so it goes before the routes.
        needs_internet = pulumi.ResourceOptions(parent=self, depends_on=internet_routes)
        address = aws.ec2.Eip(
            f"{self._name}-nat-{zone}",
            domain="vpc",
            tags=self._tags(f"nat-{zone}"),
            opts=needs_internet,
        )
        return aws.ec2.NatGateway(
            f"{self._name}-{zone}",
            subnet_id=subnet.id,
            allocation_id=address.id,
            tags=self._tags(f"nat-{zone}"),
            opts=needs_internet,
        )

    def _zone_route_tables(
        self, nat_gateways: Mapping[str, aws.ec2.NatGateway]
    ) -> dict[str, aws.ec2.RouteTable]:
        tables: dict[str, aws.ec2.RouteTable] = {}
        for zone, nat_gateway in nat_gateways.items():
            tables[zone] = aws.ec2.RouteTable(
                f"{self._name}-{zone}", vpc_id=self.vpc_id, tags=self._tags(zone), opts=self._own
            )
            route = aws.ec2.Route(
                f"{self._name}-{zone}",
                route_table_id=tables[zone].id,
                destination_cidr_block=_ANYWHERE,
                nat_gateway_id=nat_gateway.id,
                opts=self._own,
            )
            self.egress.append(route)
        return tables

    def _associate(
        self, name: str, subnet: aws.ec2.Subnet, table: aws.ec2.RouteTable
    ) -> aws.ec2.RouteTableAssociation:
        association = aws.ec2.RouteTableAssociation(
            f"{self._name}-{name}", subnet_id=subnet.id, route_table_id=table.id, opts=self._own
        )
        self.egress.append(association)
        return association

    def _s3_endpoint(self, tables: Mapping[str, aws.ec2.RouteTable]) -> None:
        # Models and the layers of images come from S3; through NAT each gigabyte would have a price.
        endpoint = aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self.vpc_id,
            vpc_endpoint_type="Gateway",
            service_name=self._service_name("s3"),
            route_table_ids=[table.id for table in tables.values()],
            tags=self._tags("s3"),
            opts=self._own,
        )
        self.egress.append(endpoint)

    def _interface_endpoints(self, private: Mapping[str, aws.ec2.Subnet]) -> None:
        group = self._endpoint_security_group()
        for service in network_config.INTERFACE_ENDPOINTS:
            endpoint = aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=self.vpc_id,
                vpc_endpoint_type="Interface",
                service_name=self._service_name(service),
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in private.values()],
                security_group_ids=[group.id],
                tags=self._tags(service),
                opts=self._own,
            )
            self.egress.append(endpoint)

    def _endpoint_security_group(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            description="Private endpoints of AWS services",
            vpc_id=self.vpc_id,
            tags=self._tags("endpoints"),
            opts=self._own,
        )
        for index, cidr in enumerate(filter(None, (self._args.config.cidr, self._args.config.pod_cidr))):
            rule = aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-endpoints-{index}",
                security_group_id=group.id,
                description="HTTPS from the VPC",
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=_HTTPS_PORT,
                to_port=_HTTPS_PORT,
                tags=self._tags("endpoints"),
                opts=self._own,
            )
            self.egress.append(rule)
        return group

    def _service_name(self, service: str) -> str:
        return f"com.amazonaws.{self._args.zones[0][:-1]}.{service}"
