"""EC2 instance types: what those with Neuron devices bring, and what Kubernetes can hand out of it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NeuronInstance:
    """An EC2 instance type with Neuron devices; cores are NeuronCores (two a device on inf2 and trn1).

    `vcpus` and `memory_gib` are the machine's, which limits of a node pool count; `allocatable_*` is what is
    left for pods. `instance_store` says whether it has local NVMe disks.
    """

    devices: int
    cores: int
    vcpus: int
    memory_gib: int
    allocatable_cpu_millis: int
    allocatable_memory_mib: int
    tensor_parallel: tuple[int, ...]
    instance_store: bool


# Tensor-parallel degrees: transformers-neuronx developer guide, "Tensor-parallelism support", archived in
# https://github.com/aws-neuron/aws-neuron-sdk under archive/transformers-neuronx.
_INF2_TP = (1, 2, 4, 8, 24)
_TRN1_TP = (1, 2, 8, 32)

# Devices, vCPU, memory, local disks and allocatable CPU and memory:
# https://karpenter.sh/v1.14/reference/instance-types/ (2026-11).
NEURON_INSTANCES = {
    "inf2.xlarge": NeuronInstance(1, 2, 4, 16, 3920, 14162, _INF2_TP, instance_store=False),
    "inf2.8xlarge": NeuronInstance(1, 2, 32, 128, 31850, 118312, _INF2_TP, instance_store=False),
    "inf2.24xlarge": NeuronInstance(6, 12, 96, 384, 95690, 355262, _INF2_TP, instance_store=False),
    "inf2.48xlarge": NeuronInstance(12, 24, 192, 768, 191450, 718987, _INF2_TP, instance_store=False),
    "trn1.2xlarge": NeuronInstance(1, 2, 8, 32, 7910, 29317, _TRN1_TP, instance_store=True),
    "trn1.32xlarge": NeuronInstance(16, 32, 128, 512, 127610, 481894, _TRN1_TP, instance_store=True),
}

# Memory of a NeuronCore of inf2 and trn1: a device has 32 GiB for its two
# (https://github.com/aws-neuron/aws-neuron-sdk/blob/81ce03ae261e12925e53437a0f690478e6366155/about-neuron/
# transformers/generative-llm-inference-with-neuron.rst, 2026-11).
HBM_BYTES = 16 * 2**30


@dataclass(frozen=True)
class GeneralInstance:
    """What pods can have of an ordinary instance type."""

    allocatable_cpu_millis: int
    allocatable_memory_mib: int


# The default types of the general pool (same page as above).
GENERAL_INSTANCES = {
    "m6i.large": GeneralInstance(1930, 6903),
    "m6i.xlarge": GeneralInstance(3920, 14162),
    "m6i.2xlarge": GeneralInstance(7910, 29317),
}


def has_arm_cores(instance_type: str) -> bool:
    """Whether the type is Graviton's, whose families have a g behind their generation: m7g, c7gn, t4g."""
    return re.match(r"[a-z]+\d+g", instance_type) is not None
