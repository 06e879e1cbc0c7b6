"""What has to go waits for what is in it: request < replica < drain < pod < node."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.config_errors import ConfigError
from infra.grace_periods import LONGEST_REQUEST_S, NODE_GRACE_S, PROXY_DRAIN_S
from tests.unit.plans import CPU, NEURON, OWN, plan


def template(spec: dict[str, Any], role: str) -> dict[str, Any]:
    cluster = spec["rayClusterConfig"]
    group = cluster["headGroupSpec"] if role == "head" else cluster["workerGroupSpecs"][0]
    return group["template"]["spec"]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in pod["containers"][0]["env"]}


def replica_s(spec: dict[str, Any]) -> int:
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    return max(item.get("graceful_shutdown_timeout_s", 20) for item in application["deployments"])


@pytest.mark.parametrize(
    ("base", "changes", "request_s"),
    [
        (CPU, {}, 300),
        (NEURON, {"requestTimeoutSeconds": 1}, 1),
        (NEURON, {"requestTimeoutSeconds": LONGEST_REQUEST_S}, LONGEST_REQUEST_S),
        (OWN, {}, 0),
        (OWN, {"deployments": [{"name": "A", "graceful_shutdown_timeout_s": 700}]}, 0),
    ],
)
def test_each_period_is_longer_than_the_one_inside_it(
    base: dict[str, Any], changes: dict[str, Any], request_s: int
) -> None:
    spec = plan(base, **changes).spec
    worker = template(spec, "worker")
    drain_s = int(variables(worker)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    periods = [request_s, replica_s(spec), drain_s, worker["terminationGracePeriodSeconds"], NODE_GRACE_S]
    assert periods == sorted(set(periods))
    # Serve's controller looks every 5 s whether a proxy has drained (PROXY_DRAIN_CHECK_PERIOD_S).
    assert drain_s > PROXY_DRAIN_S + 5


def test_a_request_that_outlives_its_node_is_refused() -> None:
    with pytest.raises(ValueError, match=f"less than or equal to {LONGEST_REQUEST_S}"):
        plan(CPU, requestTimeoutSeconds=LONGEST_REQUEST_S + 1)


@pytest.mark.parametrize("patience", [-1, LONGEST_REQUEST_S + 1, "long"])
def test_a_deployment_that_outlives_its_node_is_refused(patience: object) -> None:
    deployments = [{"name": "A"}, {"name": "B", "graceful_shutdown_timeout_s": patience}]
    with pytest.raises(ConfigError) as refused:
        plan(OWN, deployments=deployments)
    assert "services.chat.deployments[1].graceful_shutdown_timeout_s" in str(refused.value)
    assert f"choose 0 to {LONGEST_REQUEST_S}" in str(refused.value)


def test_a_worker_without_requests_hardly_waits() -> None:
    spec = plan(NEURON).spec
    drain_s = int(variables(template(spec, "worker"))["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    # Serve stops replicas of a draining node when no more than their own time is left before its end.
    assert drain_s - replica_s(spec) <= 5
    # The proxy's minimum, and the controller's looks.
    assert PROXY_DRAIN_S + 5 < 15


def test_a_head_can_outlive_its_workers_and_drains_nothing_itself() -> None:
    spec = plan(NEURON).spec
    head, worker = template(spec, "head"), template(spec, "worker")
    assert variables(head)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0"
    *_, patience_s = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    workers_s = worker["terminationGracePeriodSeconds"]
    assert workers_s <= int(patience_s) < head["terminationGracePeriodSeconds"]
    assert "lifecycle" not in worker["containers"][0]


def test_a_head_ends_with_its_programs() -> None:
    # As process 1 of its own the autoscaler beside Ray would never see a SIGTERM that it does not handle.
    assert template(plan(NEURON).spec, "head")["shareProcessNamespace"] is True


def test_a_head_notices_soon_that_a_worker_is_gone() -> None:
    spec = plan(NEURON).spec
    head = variables(template(spec, "head"))
    assert head["RAY_health_check_period_ms"] == "1000"
    assert int(head["RAY_SERVE_SLOW_STARTUP_WARNING_S"]) > 30
    assert "RAY_health_check_period_ms" not in variables(template(spec, "worker"))
