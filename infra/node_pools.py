"""The specs of Karpenter's NodePools and EC2NodeClasses: pure data in, pure data out.

A pool's limits are what it may hold at a time. Karpenter counts whole machines against every limit that is
set, so the limits on CPU and memory follow from the one on Neuron devices and never bind before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from infra import aws_config
from infra.grace_periods import NODE_GRACE_S
from infra.instances import NEURON_INSTANCES

NEURON_TAINT = {"key": "aws.amazon.com/neuron", "value": "true", "effect": "NoSchedule"}

# AL2023's root disk (pkg/providers/amifamily/al2023.go of Karpenter 1.14.1).
_ROOT_DEVICE = "/dev/xvda"
# gp3: at least 3000 IOPS, and 0.25 MiB/s of throughput for each; a launch that asks for more fails
# (https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html).
_GP3_MIN_IOPS = 3000
_GP3_IOPS_PER_MIB_S = 4

# Holds the image that a Ray head shares with the workers, and the chat page's.
_GENERAL_DISK_GIB = 100
_GENERAL_DISK_THROUGHPUT_MIB_S = 250

_DISRUPTION: dict[str, Any] = {
    # Moving a replica costs a model load of many minutes, so only nodes without pods are removed; and not at
    # once, because a pod that was just scheduled may still be on its way to an empty node
    # (https://github.com/kubernetes-sigs/karpenter/issues/685).
    "consolidationPolicy": "WhenEmpty",
    "consolidateAfter": "10m",
    # A new image date replaces nodes one by one. Empty nodes need no budget.
    "budgets": [{"nodes": "1", "reasons": ["Drifted"]}],
}


def neuron_node_pool(pool: aws_config.NodePool, zones: Sequence[str]) -> dict[str, Any]:
    """Spec of the NodePool of a configured pool; `zones` are the stack's."""
    spec = _node_pool(
        pool.name,
        instance_types=pool.instance_types,
        zones=pool.zones or zones,
        capacity_types=pool.capacity_types,
        limits=neuron_limits(pool.instance_types, pool.max_neuron_devices),
    )
    # Keeps every pod that does not ask for Neuron devices off machines that cost dollars an hour.
    spec["template"]["spec"]["taints"] = [NEURON_TAINT]
    return spec


def general_node_pool(settings: aws_config.Karpenter, zones: Sequence[str]) -> dict[str, Any]:
    """Spec of the pool for Ray heads and the chat page."""
    return _node_pool(
        aws_config.GENERAL_POOL,
        instance_types=settings.general_instance_types,
        zones=zones,
        # A head that spot takes away costs every service that asks it for a while.
        capacity_types=["on-demand"],
        limits={"cpu": str(settings.general_max_cpus)},
    )


def neuron_limits(instance_types: Sequence[str], max_devices: int) -> dict[str, str]:
    """Limits of a pool: its Neuron devices, and the most CPU and memory that machines with them can have."""
    instances = [NEURON_INSTANCES[instance_type] for instance_type in instance_types]
    cpus = max(-(-max_devices * instance.vcpus // instance.devices) for instance in instances)
    memory_gib = max(-(-max_devices * instance.memory_gib // instance.devices) for instance in instances)
    return {NEURON_TAINT["key"]: str(max_devices), "cpu": str(cpus), "memory": f"{memory_gib}Gi"}


def _node_pool(
    node_class: str,
    *,
    instance_types: Sequence[str],
    zones: Sequence[str],
    capacity_types: Sequence[str],
    limits: dict[str, str],
) -> dict[str, Any]:
    return {
        "template": {
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": node_class},
                "requirements": [
                    _one_of("node.kubernetes.io/instance-type", instance_types),
                    _one_of("topology.kubernetes.io/zone", zones),
                    _one_of("karpenter.sh/capacity-type", capacity_types),
                    _one_of("kubernetes.io/arch", ["amd64"]),
                ],
                # Karpenter expires nodes without regard to budgets. A new `amiDate` renews them instead, when
                # the operator wants it.
                "expireAfter": "Never",
                # A pod that refuses to go (a disruption budget, do-not-disrupt) holds a node no longer.
                "terminationGracePeriod": f"{NODE_GRACE_S // 3600}h",
            }
        },
        "disruption": _DISRUPTION,
        "limits": limits,
    }


def _one_of(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def neuron_node_class(pool: aws_config.NodePool, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Spec of a configured pool's EC2NodeClass; `shared` is what `shared_node_class` returns."""
    spec = {**shared, "blockDeviceMappings": [_root_disk(pool.disk_gib, pool.disk_throughput_mib_s)]}
    if pool.capacity_reservations:
        spec["capacityReservationSelectorTerms"] = _by_id(pool.capacity_reservations)
    if all(NEURON_INSTANCES[instance_type].instance_store for instance_type in pool.instance_types):
        # Images and model files go to the local NVMe disks, which are paid for anyway.
        spec["instanceStorePolicy"] = "RAID0"
    return spec


def general_node_class(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Spec of the general pool's EC2NodeClass; `shared` is what `shared_node_class` returns."""
    return {
        **shared,
        "blockDeviceMappings": [_root_disk(_GENERAL_DISK_GIB, _GENERAL_DISK_THROUGHPUT_MIB_S)],
    }


def shared_node_class(
    *,
    ami_alias: pulumi.Input[str],
    node_role: pulumi.Input[str],
    subnet_ids: Sequence[pulumi.Input[str]],
    security_group_id: pulumi.Input[str],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """What the EC2NodeClasses of all pools have in common.

    `ami_alias` is like `al2023@v20261105`, `node_role` the role's name.
    """
    return {
        # The alias stands for a set of images, from which a node gets the one for its devices: the Neuron
        # image with the driver on inf2 and trn1.
        "amiSelectorTerms": [{"alias": ami_alias}],
        "role": node_role,
        "subnetSelectorTerms": _by_id(subnet_ids),
        "securityGroupSelectorTerms": _by_id([security_group_id]),
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            # One hop ends at the node: pods get their credentials from Pod Identity, not the node's role.
            "httpPutResponseHopLimit": 1,
        },
        "tags": dict(tags),
    }


def _by_id(ids: Sequence[pulumi.Input[str]]) -> list[dict[str, pulumi.Input[str]]]:
    return [{"id": id_} for id_ in ids]


def _root_disk(size_gib: int, throughput_mib_s: int) -> dict[str, Any]:
    return {
        "deviceName": _ROOT_DEVICE,
        "ebs": {
            "volumeType": "gp3",
            "volumeSize": f"{size_gib}Gi",
            "throughput": throughput_mib_s,
            "iops": max(_GP3_MIN_IOPS, _GP3_IOPS_PER_MIB_S * throughput_mib_s),
            "encrypted": True,
            "deleteOnTermination": True,
        },
    }
