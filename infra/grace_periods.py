"""How long what has to go may take, from the inside out: request, replica, worker's drain, pod, node.

Each is longer than the one before, or the outer one kills what the inner one still waits for.
"""

from __future__ import annotations

# Karpenter deletes a node's pods in time for their own grace periods to end with this one
# (https://karpenter.sh/docs/concepts/disruption/#terminationgraceperiod, read 2026-11).
NODE_GRACE_S = 3600
# The longest request that a service may allow, and replica of an own app that may end its requests. What is
# left of a node's time is for the margins below, and for a replacement elsewhere to be loaded.
LONGEST_REQUEST_S = 3000

# Between a request's time and the proxy's patience, so that the app's own answer wins.
PROXY_GRACE_S = 15
# Serve stops the replicas of a draining node only once the time that is left is no more than a replica's own
# (`_partition_groups_to_stop` in ray/serve/_private/deployment_state.py, 2.60), unless others run in their
# place before. An idle worker waits for all of this margin, and the client of a worker that ends is not
# helped by it: the pod is no endpoint any more.
_DRAIN_MARGIN_S = 2
# For what is left to end after the drain.
_POD_MARGIN_S = 30
# Serve's proxy takes requests for at least this long after it was told to go (30 s by default): the readiness
# probe that takes the pod out of its Service looks every 3 s, and nodes hear of it a moment later.
PROXY_DRAIN_S = 8

# A head drains nothing: it has no replica and no client. What it waits for is only missing in the next head.
HEAD_DRAIN_S = 0
_HEAD_MARGIN_S = 30
# For a node whose Ray processes are gone or do not answer: it has no request to end.
DEAD_NODE_GRACE_S = 5


def drain_s(replica_s: int) -> int:
    """For `RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S` of a worker whose replicas may take `replica_s` seconds."""
    return replica_s + _DRAIN_MARGIN_S


def pod_grace_s(replica_s: int) -> int:
    """For `terminationGracePeriodSeconds` of a worker's pod, seconds."""
    return drain_s(replica_s) + _POD_MARGIN_S


def head_grace_s(replica_s: int) -> int:
    """For `terminationGracePeriodSeconds` of a head's pod, seconds: it may have to outlive its workers."""
    return pod_grace_s(replica_s) + _HEAD_MARGIN_S
