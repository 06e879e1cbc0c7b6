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
# `ray start --block` drains for at most this much longer than the longest request takes: Serve's proxy alone
# takes 30 s (RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S), and it waits for requests that have just come.
_DRAIN_MARGIN_S = 60
# For what is left to end after the drain.
_POD_MARGIN_S = 30

# A head has nothing to drain: no replica, no client. What it waits for is only missing in the next head.
HEAD_DRAIN_S = 0
HEAD_GRACE_S = 30


def drain_s(longest_request_s: int) -> int:
    """For `RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S` of a worker, seconds."""
    return longest_request_s + _DRAIN_MARGIN_S


def pod_grace_s(longest_request_s: int) -> int:
    """For `terminationGracePeriodSeconds` of a worker's pod, seconds."""
    return drain_s(longest_request_s) + _POD_MARGIN_S
