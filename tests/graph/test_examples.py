"""Every directory of examples/: its stack file evaluates, its objects are valid, its page tells the truth."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from ray.serve.schema import ServeDeploySchema

from infra.instances import HBM_BYTES
from infra.service_config import AnyService, LlmService
from offline.errors import OfflineError
from offline.graph import Graph
from offline.manifests import manifests
from offline.recorder import evaluate
from offline.serve_config import serve_config_text
from offline.stack_files import stack_name_of
from policy.model import from_graph
from policy.rules import check, read_config
from tests import schemas
from workloads.fit import replica_fit
from workloads.placement import place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STACK_FILES = sorted(EXAMPLES.glob("*/Pulumi.*.yaml"))
EACH = pytest.mark.parametrize("stack_file", STACK_FILES, ids=lambda path: path.parent.name)


@cache
def evaluated(stack_file: Path) -> Graph:
    return evaluate(stack_name_of(stack_file), stack_file=stack_file)


def test_every_example_is_one_stack_file_and_one_page() -> None:
    directories = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
    assert [path.parent for path in STACK_FILES] == directories
    for directory in directories:
        assert (directory / f"Pulumi.{directory.name}.yaml").is_file()
        assert (directory / "README.md").is_file()


@EACH
def test_its_ray_services_are_valid_for_the_crd(stack_file: Path) -> None:
    valid = Draft202012Validator(schemas.custom_resource_schema("ray.io_rayservices.yaml", "v1"))
    objects = manifests(evaluated(stack_file), {}).objects
    services = [manifest for manifest in objects if manifest["kind"] == "RayService"]
    written = yaml.safe_load(stack_file.read_text())["config"]["neuron-serve:services"]
    assert [service["metadata"]["name"] for service in services] == list(written)
    for service in services:
        valid.validate(service)


@EACH
def test_it_keeps_to_the_policies(stack_file: Path) -> None:
    found = [from_graph(resource) for resource in evaluated(stack_file).to_json()["resources"]]
    assert check(found, read_config()) == []


@EACH
def test_its_serve_config_is_the_ray_services_and_ray_accepts_it(stack_file: Path) -> None:
    graph = evaluated(stack_file)
    for resource in graph.by_type("kubernetes:ray.io/v1:RayService"):
        config = yaml.safe_load(serve_config_text(graph, resource.name))
        assert config == yaml.safe_load(resource.inputs["spec"]["serveConfigV2"])
        accepted = ServeDeploySchema.model_validate(config)
        assert [application.name for application in accepted.applications] == [resource.name]
        assert accepted.proxy_location == "EveryNode"
        assert accepted.http_options.port == 8000


def test_a_serve_config_says_that_the_codes_bucket_is_a_stand_in() -> None:
    for stack_file in STACK_FILES:
        graph = evaluated(stack_file)
        name = graph.by_type("kubernetes:ray.io/v1:RayService")[0].name
        text = serve_config_text(graph, name)
        on_aws = yaml.safe_load(stack_file.read_text())["config"]["neuron-serve:target"] == "aws"
        assert ("is a stand-in" in text) == on_aws == ("working_dir: s3://" in text)


def test_a_serve_config_of_no_service_is_refused_with_the_names_there_are() -> None:
    (llama,) = [path for path in STACK_FILES if path.parent.name == "llama-3-8b"]
    with pytest.raises(OfflineError, match="choose one with --service: latency, throughput"):
        serve_config_text(evaluated(llama), None)
    with pytest.raises(OfflineError, match="it has latency, throughput"):
        serve_config_text(evaluated(llama), "chat")


def test_mistral_grows_by_two_neuron_cores_a_replica_and_survives_a_node() -> None:
    (mistral,) = [path for path in STACK_FILES if path.parent.name == "mistral-7b"]
    (service,) = evaluated(mistral).by_type("kubernetes:ray.io/v1:RayService")
    spec = service.inputs["spec"]
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert group["replicas"] == 2
    assert group["resources"] == {"neuron_cores": "2"}
    engine = yaml.safe_load(spec["serveConfigV2"])["applications"][0]["deployments"][1]
    assert engine["ray_actor_options"]["resources"] == {"neuron_cores": 2}
    assert engine["max_replicas_per_node"] == 1
    assert "gcsFaultToleranceOptions" in spec["rayClusterConfig"]


def test_the_trade_off_on_the_llama_page_is_what_placement_says() -> None:
    page = (EXAMPLES / "llama-3-8b/README.md").read_text()
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in page.splitlines() if line.startswith("|")]
    shown = {row[0]: row[1:] for row in rows}
    services = yaml.safe_load((EXAMPLES / "llama-3-8b/Pulumi.llama-3-8b.yaml").read_text())["config"][
        "neuron-serve:services"
    ]
    for column, name in enumerate(("latency", "throughput")):
        service = TypeAdapter(AnyService).validate_python({**services[name], "image": "i:1"})
        assert isinstance(service, LlmService)
        placement = place(name, service)
        memory = replica_fit(name, service, placement).memory
        assert memory is not None
        slot = memory.kv_cache / service.slots
        slots = int((HBM_BYTES - memory.weights - memory.workspace) / slot)
        expected = {
            "replicas a node": f"{placement.replicas_per_worker}",
            "weights a NeuronCore": f"{memory.weights / 2**30:.2f} GiB",
            "of weights and cache, padding and copies": f"{memory.padding / memory.allocated:.0%}",
            "cache of one slot, all its NeuronCores": f"{slot * service.tensor_parallel / 2**30:.2f} GiB",
            "slots that would fit a node": f"about {slots * placement.replicas_per_worker // 10 * 10}",
            "slots of the stack file, a node": f"{service.slots * placement.replicas_per_worker}",
        }
        assert {row: shown[row][column] for row in expected} == expected
