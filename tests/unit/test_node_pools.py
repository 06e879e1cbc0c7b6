"""NodePools and EC2NodeClasses: limits that can be reached, disks that can start, what the CRDs accept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra import aws_config, node_pools
from infra.instances import NEURON_INSTANCES
from tests import schemas

ZONES = ["us-west-2a", "us-west-2b", "us-west-2c"]
SHARED = node_pools.shared_node_class(
    ami_alias="al2023@v20261105",
    node_role="karpenter-node-1234567",
    subnet_ids=["subnet-0a1", "subnet-0b2", "subnet-0c3"],
    security_group_id="sg-0d4",
    tags={"project": "neuron-serve"},
)


def pool(**keys: Any) -> aws_config.NodePool:
    return aws_config.NodePool.model_validate(
        {"name": "neuron", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 16} | keys
    )


def requirement(spec: dict[str, Any], key: str) -> list[str]:
    (values,) = [entry["values"] for entry in spec["template"]["spec"]["requirements"] if entry["key"] == key]
    return values


POOLS = [
    pool(),
    pool(instanceTypes=["trn1.32xlarge"], zones=ZONES[:1], diskGib=1000, diskThroughputMibS=1000),
    pool(
        instanceTypes=["inf2.24xlarge", "trn1.2xlarge"],
        capacityTypes=["reserved", "on-demand", "spot"],
        capacityReservations=["cr-0123456789abcdef0"],
    ),
]
GENERAL = aws_config.Karpenter.model_validate({})


@pytest.mark.parametrize(
    ("crd", "api_version", "kind", "specs"),
    [
        (
            "karpenter.sh_nodepools.yaml",
            "karpenter.sh/v1",
            "NodePool",
            [
                *(node_pools.neuron_node_pool(each, ZONES) for each in POOLS),
                node_pools.general_node_pool(GENERAL, ZONES),
            ],
        ),
        (
            "karpenter.k8s.aws_ec2nodeclasses.yaml",
            "karpenter.k8s.aws/v1",
            "EC2NodeClass",
            [
                *(node_pools.neuron_node_class(each, SHARED) for each in POOLS),
                node_pools.general_node_class(SHARED),
            ],
        ),
    ],
    ids=["NodePool", "EC2NodeClass"],
)
def test_specs_are_what_the_crds_accept(
    crd: str, api_version: str, kind: str, specs: list[dict[str, Any]]
) -> None:
    schema = schemas.custom_resource_schema(crd, "v1")
    for spec in specs:
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
        jsonschema.validate(manifest, schema)


def limit(limits: dict[str, str], resource: str) -> int:
    return int(limits[resource].removesuffix("Gi"))


@given(
    instance_types=st.lists(st.sampled_from(sorted(NEURON_INSTANCES)), min_size=1, unique=True),
    max_devices=st.integers(1, 64),
    picks=st.lists(st.integers(0, len(NEURON_INSTANCES) - 1), max_size=64),
)
def test_no_mix_of_machines_meets_cpu_or_memory_before_its_devices(
    instance_types: Sequence[str], max_devices: int, picks: Sequence[int]
) -> None:
    limits = node_pools.neuron_limits(instance_types, max_devices)
    devices = cpus = memory_gib = 0
    for pick in picks:
        machine = NEURON_INSTANCES[instance_types[pick % len(instance_types)]]
        if devices + machine.devices <= max_devices:
            devices += machine.devices
            cpus += machine.vcpus
            memory_gib += machine.memory_gib
    assert limit(limits, "aws.amazon.com/neuron") == max_devices
    assert cpus <= limit(limits, "cpu")
    assert memory_gib <= limit(limits, "memory")


def test_limits_are_those_of_the_largest_machines_for_the_devices() -> None:
    # Two inf2.24xlarge or one inf2.48xlarge, or twelve inf2.8xlarge, which bring the most CPU and memory.
    assert node_pools.neuron_limits(["inf2.24xlarge", "inf2.48xlarge"], 12) == {
        "aws.amazon.com/neuron": "12",
        "cpu": "192",
        "memory": "768Gi",
    }
    assert node_pools.neuron_limits(["inf2.8xlarge", "inf2.48xlarge"], 12) == {
        "aws.amazon.com/neuron": "12",
        "cpu": "384",
        "memory": "1536Gi",
    }


def test_the_general_pool_is_limited_by_cpus_alone() -> None:
    assert node_pools.general_node_pool(GENERAL, ZONES)["limits"] == {"cpu": "32"}


def test_only_neuron_pools_are_tainted() -> None:
    spec = node_pools.neuron_node_pool(pool(), ZONES)["template"]["spec"]
    assert spec["taints"] == [{"key": "aws.amazon.com/neuron", "value": "true", "effect": "NoSchedule"}]
    assert "taints" not in node_pools.general_node_pool(GENERAL, ZONES)["template"]["spec"]


def test_a_pool_starts_the_types_it_names_in_its_zones() -> None:
    spec = node_pools.neuron_node_pool(pool(zones=ZONES[1:]), ZONES)
    assert requirement(spec, "node.kubernetes.io/instance-type") == ["inf2.8xlarge"]
    assert requirement(spec, "topology.kubernetes.io/zone") == ZONES[1:]
    assert requirement(node_pools.neuron_node_pool(pool(), ZONES), "topology.kubernetes.io/zone") == ZONES
    assert requirement(spec, "kubernetes.io/arch") == ["amd64"]


def test_reservations_are_named_by_id() -> None:
    reserved = pool(capacityTypes=["reserved"], capacityReservations=["cr-0a", "cr-0b"])
    spec = node_pools.neuron_node_pool(reserved, ZONES)
    assert requirement(spec, "karpenter.sh/capacity-type") == ["reserved"]
    terms = node_pools.neuron_node_class(reserved, SHARED)["capacityReservationSelectorTerms"]
    assert terms == [{"id": "cr-0a"}, {"id": "cr-0b"}]
    assert "capacityReservationSelectorTerms" not in node_pools.neuron_node_class(pool(), SHARED)


@pytest.mark.parametrize(
    ("instance_types", "policy"),
    [
        (["trn1.2xlarge", "trn1.32xlarge"], "RAID0"),
        (["inf2.xlarge", "inf2.48xlarge"], None),
        (["inf2.48xlarge", "trn1.32xlarge"], None),
    ],
)
def test_local_disks_are_used_where_every_machine_has_them(
    instance_types: list[str], policy: str | None
) -> None:
    spec = node_pools.neuron_node_class(pool(instanceTypes=instance_types), SHARED)
    assert spec.get("instanceStorePolicy") == policy


@given(throughput_mib_s=st.integers(125, 1000), size_gib=st.integers(50, 16384))
def test_a_root_disk_has_the_operations_that_its_throughput_takes(
    throughput_mib_s: int, size_gib: int
) -> None:
    spec = node_pools.neuron_node_class(pool(diskThroughputMibS=throughput_mib_s, diskGib=size_gib), SHARED)
    (mapping,) = spec["blockDeviceMappings"]
    disk = mapping["ebs"]
    assert disk["volumeSize"] == f"{size_gib}Gi"
    assert disk["throughput"] == throughput_mib_s <= disk["iops"] / 4
    assert 3000 <= disk["iops"] <= 16_000
    assert (disk["volumeType"], disk["encrypted"], disk["deleteOnTermination"]) == ("gp3", True, True)


@pytest.mark.parametrize(
    "spec",
    [node_pools.neuron_node_class(pool(), SHARED), node_pools.general_node_class(SHARED)],
    ids=["neuron", "general"],
)
def test_pods_cannot_use_the_role_of_their_node(spec: dict[str, Any]) -> None:
    assert spec["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


@pytest.mark.parametrize(
    "spec",
    [node_pools.neuron_node_pool(pool(), ZONES), node_pools.general_node_pool(GENERAL, ZONES)],
    ids=["neuron", "general"],
)
def test_a_node_with_pods_is_left_alone_and_a_deleted_one_goes_within_the_hour(spec: dict[str, Any]) -> None:
    assert spec["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert spec["disruption"]["consolidateAfter"] == "10m"
    assert spec["disruption"]["budgets"] == [{"nodes": "1", "reasons": ["Drifted"]}]
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    assert spec["template"]["spec"]["terminationGracePeriod"] == "1h"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"instanceTypes": ["inf2.4xlarge"]},
            "'inf2.4xlarge' is not a Neuron instance type known here; choose one of inf2.xlarge, ",
        ),
        (
            {"instanceTypes": ["inf2.8xlarge", "inf2.48xlarge"], "maxNeuronDevices": 6},
            "maxNeuronDevices 6 is below the 12 devices of inf2.48xlarge, which could never start; raise",
        ),
        ({"name": "general"}, "'general' is the pool of Ray heads and the chat page; choose another name"),
        ({"capacityTypes": ["reserved"]}, "do not fit together; name reservations (cr-...)"),
        ({"capacityReservations": ["cr-0a"]}, "do not fit together; name reservations (cr-...)"),
        (
            {"capacityTypes": ["reserved"], "capacityReservations": ["r-1"]},
            "'r-1' in capacityReservations is not the id of a capacity reservation",
        ),
    ],
)
def test_a_pool_that_could_not_start_a_node_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        pool(**keys)


def test_the_general_pool_starts_what_the_images_run_on() -> None:
    with pytest.raises(ValidationError, match=r"'m7g\.large' has Arm cores and the images are x86"):
        aws_config.Karpenter.model_validate({"generalInstanceTypes": ["m6i.large", "m7g.large"]})
