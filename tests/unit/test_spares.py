"""A local run with spare parts: what it deploys, and how it is hurt."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from offline.errors import OfflineError
from offline.ha.hurt import hurt
from offline.ha.spares import with_spares
from offline.local.processes import identity_of
from offline.local.state import RunState, StateDirectory
from tests.unit.plans import CPU, NEURON, plan


@pytest.mark.parametrize("base", [CPU, NEURON], ids=["one replica", "autoscaled"])
def test_every_deployment_has_a_replica_on_each_worker(base: dict[str, object]) -> None:
    config = yaml.safe_load(plan(base).spec["serveConfigV2"])
    spared, _ = with_spares(config, 8123)
    for deployment in spared["applications"][0]["deployments"]:
        assert deployment["num_replicas"] == 2
        assert deployment["max_replicas_per_node"] == 1
        assert deployment["max_surge_percent"] == 0  # there is no third place
        assert "autoscaling_config" not in deployment
    assert spared["http_options"]["host"] == "127.0.0.1"
    assert spared["http_options"]["port"] == 8123
    assert config == yaml.safe_load(plan(base).spec["serveConfigV2"])


def test_what_differs_from_the_stack_is_said() -> None:
    _, found = with_spares(yaml.safe_load(plan(CPU).spec["serveConfigV2"]), 8123)
    assert {s.what for s in found} == {"Api num_replicas", "Engine num_replicas"}
    assert {(s.was, s.becomes) for s in found} == {("1", "2")}


def test_nothing_runs_so_nothing_is_hurt(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="'local' is not running; start it with: make local ARGS=--ha"):
        hurt("local", tmp_path, "head", "kill", 60)


def test_a_run_without_spare_parts_has_no_such_part(tmp_path: Path) -> None:
    me = identity_of(os.getpid())
    StateDirectory(tmp_path).save(RunState("id", me, time.time(), programs={"ray-head": me}))
    with pytest.raises(OfflineError, match="has no worker-1; only one with spare parts has"):
        hurt("local", tmp_path, "worker-1", "kill", 60)


def test_what_is_held_stays_down_until_its_time(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    assert not directory.held("ray-head")
    directory.hold("ray-head", time.time() + 60)
    assert directory.held("ray-head")
    directory.hold("ray-head", time.time() - 1)
    assert not directory.held("ray-head")
