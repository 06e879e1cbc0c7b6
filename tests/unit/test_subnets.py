"""Every subnet lies in its range, apart from all others, with enough addresses, and never moves."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from infra.subnets import ZoneSubnets, plan_subnets

ZONES = ["us-west-2a", "us-west-2b", "us-west-2c"]
# AWS keeps the first four addresses and the last one of each subnet for itself
# (https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html).
RESERVED = 5


def usable(subnet: IPv4Network) -> int:
    return subnet.num_addresses - RESERVED


def in_vpc_range(plan: list[ZoneSubnets]) -> list[IPv4Network]:
    return [subnet for zone in plan for subnet in (zone.private, zone.public, zone.control_plane)]


def pod_subnets(plan: list[ZoneSubnets]) -> list[IPv4Network]:
    return [zone.pods for zone in plan if zone.pods is not None]


@st.composite
def ranges(draw: st.DrawFn, block: str) -> IPv4Network:
    prefix = draw(st.integers(16, 21))
    subnets = IPv4Network(block)
    index = draw(st.integers(0, 2 ** (prefix - subnets.prefixlen) - 1))
    return IPv4Network((int(subnets.network_address) + index * 2 ** (32 - prefix), prefix))


zone_counts = st.integers(2, 3)
vpcs = ranges("10.0.0.0/8")
pods = st.none() | ranges("100.64.0.0/10")


@given(vpcs, pods, zone_counts)
def test_subnets_lie_in_their_range_and_apart(vpc: IPv4Network, pod: IPv4Network | None, count: int) -> None:
    plan = plan_subnets(str(vpc), pod and str(pod), ZONES[:count])
    assert [zone.zone for zone in plan] == ZONES[:count]
    assert all(subnet.subnet_of(vpc) for subnet in in_vpc_range(plan))
    assert pod is None or all(subnet.subnet_of(pod) for subnet in pod_subnets(plan))
    for first, second in itertools.combinations(in_vpc_range(plan) + pod_subnets(plan), 2):
        assert not first.overlaps(second)


@given(vpcs, pods)
def test_every_subnet_has_the_addresses_that_its_users_need(
    vpc: IPv4Network, pod: IPv4Network | None
) -> None:
    plan = plan_subnets(str(vpc), pod and str(pod), ZONES)
    assert len(pod_subnets(plan)) == (0 if pod is None else len(ZONES))
    for subnet in [zone.private for zone in plan] + pod_subnets(plan):
        assert usable(subnet) >= 500
    for zone in plan:
        # A load balancer wants a /27 with eight free addresses, a NAT gateway one.
        assert zone.public.prefixlen <= 27
        assert usable(zone.public) >= 9
        # EKS wants six, and sixteen addresses in all.
        assert zone.control_plane.prefixlen == 28
        assert usable(zone.control_plane) >= 6


@given(vpcs, pods)
def test_a_third_zone_moves_no_subnet(vpc: IPv4Network, pod: IPv4Network | None) -> None:
    pod_cidr = pod and str(pod)
    assert plan_subnets(str(vpc), pod_cidr, ZONES[:2]) == plan_subnets(str(vpc), pod_cidr, ZONES)[:2]


def test_the_smallest_range_is_divided_as_documented() -> None:
    first, _, last = plan_subnets("10.1.0.0/21", "100.64.0.0/16", ZONES)
    assert first == ZoneSubnets(
        zone="us-west-2a",
        private=IPv4Network("10.1.0.0/23"),
        public=IPv4Network("10.1.6.0/26"),
        control_plane=IPv4Network("10.1.6.112/28"),
        pods=IPv4Network("100.64.0.0/18"),
    )
    assert last == ZoneSubnets(
        zone="us-west-2c",
        private=IPv4Network("10.1.4.0/23"),
        public=IPv4Network("10.1.7.0/26"),
        control_plane=IPv4Network("10.1.7.112/28"),
        pods=IPv4Network("100.64.128.0/18"),
    )
    assert usable(first.private) == 507
