"""`ha: true` has no single point of failure, or is refused with the way out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.config import StackConfig
from infra.config_errors import ConfigError
from tests.unit.plans import CPU, NEURON, OWN, plan
from tests.unit.stacks import stack
from workloads.availability import check_availability

TWO = {"ha": True, "replicas": {"min": 2, "max": 2}}
SPREAD = {"name": "Greeter", "num_replicas": 2, "max_replicas_per_node": 1}


def check(config: StackConfig) -> None:
    for name, service in config.services.items():
        check_availability(name, service, config)


def deployments(base: dict[str, Any], **changes: Any) -> dict[str, dict[str, Any]]:
    config = yaml.safe_load(plan(base, **changes).spec["serveConfigV2"])
    return {deployment["name"]: deployment for deployment in config["applications"][0]["deployments"]}


def own(**changes: Any) -> StackConfig:
    services = {"own": OWN | TWO | changes}
    return StackConfig.model_validate(
        {"target": "kubernetes", "gcsStore": {"kind": "inCluster"}, "services": services}
    )


def test_two_replicas_and_a_replicated_store_will_do() -> None:
    check(stack({"chat": TWO}))
    check(own(deployments=[SPREAD]))


def test_a_single_replica_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"chat.replicas.min: 1 and ha: true .* raise min to 2, or say ha"):
        check(stack({"chat": {"ha": True}}))


@pytest.mark.parametrize("kind", ["none", "inCluster"])
def test_a_store_that_goes_with_its_node_is_refused_on_aws(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"chat.ha: .* is '{kind}'; say gcsStore: {{kind: elasticache}}"):
        check(stack({"chat": TWO}, gcs_store={"kind": kind}))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ([], r"own.deployments: empty, .* num_replicas 2 or more"),
        ([SPREAD | {"num_replicas": 1}], r"deployments\[0\].num_replicas: 'Greeter' has 1, .* needs 2"),
        ([{"name": "Greeter", "num_replicas": 2}], r"deployments\[0\].max_replicas_per_node: not set"),
        (
            [{"name": "A", "autoscaling_config": {"max_replicas": 4}, "max_replicas_per_node": 1}],
            r"'A' has 1, and ha: true needs 2",
        ),
    ],
)
def test_deployments_of_ones_own_need_copies_on_two_nodes(wrong: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check(own(deployments=wrong))


@pytest.mark.parametrize(
    ("base", "replicas", "workers", "a_node"),
    [
        # Six replicas would fit one inf2.24xlarge.
        (NEURON, {"min": 2, "max": 6}, (2, 6), 1),
        (NEURON, {"min": 6, "max": 12}, (2, 3), 5),
        (CPU | {"worker": {"cpus": 16, "memoryGib": 32}}, {"min": 2, "max": 2}, (2, 2), 1),
    ],
)
def test_replicas_and_ingress_sit_on_two_workers_at_least(
    base: dict[str, Any], replicas: dict[str, int], workers: tuple[int, int], a_node: int
) -> None:
    made = plan(base, ha=True, replicas=replicas)
    assert (made.placement.min_workers, made.placement.max_workers) == workers
    found = deployments(base, ha=True, replicas=replicas)
    assert found["Engine"]["max_replicas_per_node"] == a_node
    assert found["Api"]["num_replicas"] == 2
    assert found["Api"]["max_replicas_per_node"] == 1


def test_without_ha_replicas_share_a_worker() -> None:
    assert deployments(NEURON)["Engine"]["max_replicas_per_node"] == 6
    assert plan(NEURON, replicas={"min": 2, "max": 6}).placement.min_workers == 1
