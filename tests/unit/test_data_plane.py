"""The keys that decide how requests and answers travel inside Ray Serve."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml
from ray.serve._private import constants

from infra.service_base import DataPlane
from serve_apps.llm.args import LlmArgs
from tests.unit.plans import CPU, HEADS_OWN, OWN, WORKERS_OWN, plan
from workloads.ray_cluster import DATA_PLANES


def serve_modes(container: dict[str, Any]) -> dict[str, str]:
    return {
        entry["name"]: entry["value"] for entry in container["env"] if entry["name"].startswith("RAY_SERVE")
    }


@pytest.mark.parametrize("base", [CPU, OWN], ids=["llm", "bring-your-own"])
@pytest.mark.parametrize("data_plane", get_args(DataPlane))
def test_head_and_workers_get_the_same_modes(base: dict[str, Any], data_plane: str) -> None:
    cluster = plan(base, dataPlane=data_plane).spec["rayClusterConfig"]
    for group, own in (
        (cluster["headGroupSpec"], HEADS_OWN),
        *((g, WORKERS_OWN) for g in cluster["workerGroupSpecs"]),
    ):
        assert serve_modes(group["template"]["spec"]["containers"][0]) == DATA_PLANES[data_plane] | own


@pytest.mark.parametrize(("base", "usual"), [(CPU, "throughput"), (OWN, "default")])
def test_only_apps_of_ones_own_keep_their_handlers_off_the_event_loop(
    base: dict[str, Any], usual: str
) -> None:
    cluster = plan(base).spec["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert serve_modes(head) == DATA_PLANES[usual] | HEADS_OWN


def test_ray_knows_every_mode() -> None:
    assert {name for modes in DATA_PLANES.values() for name in modes} <= set(vars(constants))


def test_the_interval_of_a_stream_reaches_the_app() -> None:
    config = yaml.safe_load(plan(CPU, streamIntervalMilliseconds=40).spec["serveConfigV2"])
    assert LlmArgs.model_validate(config["applications"][0]["args"]).stream_interval_ms == 40
