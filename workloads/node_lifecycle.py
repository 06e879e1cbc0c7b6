"""How a dead Ray node is noticed, by its pod and by its head, and what a head does before it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra import grace_periods
from workloads.serve_config import SERVE_PORT

# What a node cannot be without. `ray start --block` goes on for ever where one of them has ended with exit
# code 0 or by SIGTERM (`start` in ray/scripts/scripts.py, 2.60), as a raylet does after its dashboard agent.
VITAL_PROCESSES = {"head": ("raylet", "gcs_server"), "worker": ("raylet",)}

# Port and path of Ray's dashboard agent, where KubeRay's own liveness probe looks, too
# (initLivenessAndReadinessProbe in ray-operator/controllers/ray/common/pod.go, tag ray-operator/v1.7.0).
_HEALTH_URL = "http://localhost:52365/api/healthz"
# A look starts processes in the container, on every node and for ever, so it is not taken too often. Three
# looks, and not one: Ray's autoscaler stops the raylet of a node that it removes, and needs some seconds to
# have the pod deleted, which must not be taken for a death and replaced.
_PERIOD_S = 8
_FAILURES = 3
# How long a node whose processes live may leave its health unanswered: ten minutes, as with KubeRay's probe,
# because a node that is short of CPUs, or cut off, is not a dead one.
_PATIENCE_S = 600
# A container that has not begun has not failed.
_START_PERIOD_S = 2
# What KubeRay asks of a worker as well, in its `initLivenessAndReadinessProbe`: the kubelet itself asks here,
# where KubeRay's probe starts two programs in the container and takes a worker out of its Service that does
# not have them running within two seconds.
_SERVES = {"path": "/-/healthz", "port": SERVE_PORT}
_READINESS = {"httpGet": _SERVES, "periodSeconds": 3, "timeoutSeconds": 5, "failureThreshold": 1}

# A head asks workers for their health and gives one up that fails five times: by its own settings after 15 s
# where connections are refused, and after 65 s where nothing answers. Until then, requests that went there
# wait, and so do engines that have an answer for it: so it asks more often, and a refusal counts after 5 s.
# It waits longer for each answer, because a network that was gone for 30 s is gone for 51 s to TCP, which
# doubles the time between two attempts: with 10 s for an answer, and so 55 s in all, workers that were cut
# off for half a minute were given up with their models. With 15 s it is 80 s.
_NODE_HEALTH_CHECK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "15000"}
# A new head's Serve controller stops every replica that it has not reached after this long, by default 30 s
# (`stop_on_slow` in ray/serve/_private/deployment_state.py, 2.60), and workers have needed 27 s to find one
# at a new address: all models were loaded again. For replicas that start it only means a line in the log.
_REPLICA_RECOVERY = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "120"}
HEAD_PATIENCE = _NODE_HEALTH_CHECK | _REPLICA_RECOVERY

_HEAD_PRE_STOP = Path(__file__).with_name("head_pre_stop_script.py")

# Zombies have names, too, until their parent asks for them.
_PROBE = """\
while :; do
  for name in {processes}; do
    grep -qsE "^[0-9]+ \\($name\\) [^XZ]" /proc/[0-9]*/stat || {{ echo "no $name runs here"; exit 1; }}
  done
  wget -q -t 1 -T 5 -O /dev/null {url} && exit 0
  [ $SECONDS -lt {patience_s} ] || {{ echo "Ray does not answer"; exit 1; }}
  sleep 2
done
"""


def probe_script(processes: Sequence[str], patience_s: int) -> str:
    """Bash that fails at once without one of the processes, and after `patience_s` without Ray's answer."""
    return _PROBE.format(processes=" ".join(processes), url=_HEALTH_URL, patience_s=patience_s)


def probes(role: str) -> dict[str, Any]:
    """Start-up and liveness probe of a node by its role; of a worker, too, whether its proxy takes requests.

    A node without a process of its own is noticed within 24 s; one that only does not answer after ten
    minutes, by `_FAILURES` probes each of which looks for its share of them.
    """
    patience_s = _PATIENCE_S // _FAILURES
    command = ["bash", "-c", probe_script(VITAL_PROCESSES[role], patience_s)]
    # A probe out of time would be a failure, so it has more time than it takes.
    probe = {"exec": {"command": command}, "timeoutSeconds": 2 * patience_s}
    start = {"periodSeconds": _START_PERIOD_S, "failureThreshold": _PATIENCE_S // _START_PERIOD_S}
    dead = {"terminationGracePeriodSeconds": grace_periods.DEAD_NODE_GRACE_S}
    liveness = {"periodSeconds": _PERIOD_S, "failureThreshold": _FAILURES, **dead}
    readiness = {"readinessProbe": _READINESS} if role == "worker" else {}
    return {"startupProbe": probe | start, "livenessProbe": probe | liveness, **readiness}


def head_lifecycle(replica_s: int) -> dict[str, Any]:
    """The hook by which a head outlives the workers of a cluster that is deleted, as long as they take."""
    script = _HEAD_PRE_STOP.read_text(encoding="utf-8")
    patience_s = grace_periods.pod_grace_s(replica_s)
    return {"preStop": {"exec": {"command": ["python", "-I", "-c", script, str(patience_s)]}}}
