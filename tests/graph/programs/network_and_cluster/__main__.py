"""The network and the cluster of a stack."""

from __future__ import annotations

import sys
from pathlib import Path

# The project's packages are not beside this program.
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from infra import config, preflight
from infra.cluster import EksCluster, EksClusterArgs
from infra.network import Network, NetworkArgs

stack, _ = config.load()
aws = stack.aws
assert aws is not None
preflight.check(stack)

tags = {"stack": "test"}
network = Network("network", NetworkArgs(aws.network, aws.zones, aws.name, tags))
EksCluster("cluster", EksClusterArgs(aws.cluster, aws.name, aws.environment, network, tags))
