"""The key `grpc` of a service of one's own: what becomes of it in the RayService."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from tests.unit.plans import CPU, OWN, plan

SERVICER = "stubs_pb2_grpc.add_GreeterServicer_to_server"
GRPC = {"servicerFunctions": [SERVICER]}


def serve_config(**changes: Any) -> dict[str, Any]:
    return yaml.safe_load(plan(OWN, **changes).spec["serveConfigV2"])


def pods(**changes: Any) -> list[dict[str, Any]]:
    cluster = plan(OWN, **changes).spec["rayClusterConfig"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_serve_gets_the_options_and_accepts_them() -> None:
    config = serve_config(grpc=GRPC | {"requestTimeoutSeconds": 30})
    assert config["grpc_options"] == {
        "port": 9000,
        "grpc_servicer_functions": [SERVICER],
        "request_timeout_s": 30,
        "enable_reflection": False,
    }
    assert ServeDeploySchema.model_validate(config).grpc_options.port == 9000


def test_every_pod_has_the_port_by_a_name_that_kuberay_puts_into_the_service() -> None:
    for pod in pods(grpc=GRPC):
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert (ports["serve"], ports["serve-grpc"]) == (8000, 9000)


def test_without_it_there_is_nothing_of_it() -> None:
    assert "grpc_options" not in serve_config()
    for pod in pods():
        assert "annotations" not in pod["metadata"]
        assert "serve-grpc" not in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]


def test_other_functions_are_another_ray_cluster_because_running_proxies_never_read_them_again() -> None:
    assert pods(grpc=GRPC) != pods(grpc={"servicerFunctions": [SERVICER, "more:add"]})


@pytest.mark.parametrize(
    ("grpc", "expected"),
    [
        ({"servicerFunctions": []}, "at least 1 item"),
        ({"servicerFunctions": ["not a path"]}, "should match pattern"),
        ({}, "Field required"),
        (GRPC | {"requestTimeoutSeconds": 0}, "greater than 0"),
        (GRPC | {"port": 9001}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_values_are_refused(grpc: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        plan(OWN, grpc=grpc)


def test_a_model_of_this_project_has_none() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        plan(CPU, grpc=GRPC)
