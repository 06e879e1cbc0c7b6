"""Services whose models are compiled with torch-neuronx: configuration, placement, Serve config."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from infra.config_errors import ConfigError
from infra.service_config import EmbeddingsService, StableDiffusionService
from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from workloads.ray_cluster import SecretNames
from workloads.service_plan import ServicePlan, plan_service

EMBEDDINGS = {"app": "embeddings", "model": "org/minilm", "image": "i:1", "accelerator": "cpu"}
IMAGES = {"app": "stable-diffusion", "model": "org/sd", "image": "i:1", "accelerator": "cpu"}
ON_NEURON = {"accelerator": "neuron", "instanceType": "inf2.8xlarge"}
BOTH = pytest.mark.parametrize("base", [EMBEDDINGS, IMAGES], ids=["embeddings", "images"])


def plan(base: dict[str, Any], **changes: Any) -> ServicePlan:
    kind = EmbeddingsService if base["app"] == "embeddings" else StableDiffusionService
    return plan_service("svc", kind.model_validate(base | changes), SecretNames("ray-auth", "api-keys"))


def deployments(planned: ServicePlan) -> dict[str, Any]:
    config = yaml.safe_load(planned.spec["serveConfigV2"])
    return {entry["name"]: entry for entry in config["applications"][0]["deployments"]}


def test_embeddings_become_the_apps_arguments() -> None:
    planned = plan(EMBEDDINGS, maxInputTokens=128, maxBatch=8, auth="none", **ON_NEURON, neuronCores=2)
    assert planned.application["import_path"] == "serve_apps.embeddings.app:build_app"
    args = EmbeddingsArgs.model_validate(planned.application["args"])
    assert (args.device, args.neuron_cores, args.max_input_tokens, args.max_batch) == ("neuron", 2, 128, 8)
    assert (args.model, args.served_name, args.auth) == ("org/minilm", "svc", "none")


def test_sizes_become_the_apps_arguments() -> None:
    planned = plan(IMAGES, sizes=[512, 768], servedName="sd", **ON_NEURON, neuronCores=2)
    assert planned.application["import_path"] == "serve_apps.stable_diffusion.app:build_app"
    args = StableDiffusionArgs.model_validate(planned.application["args"])
    assert (args.sizes, args.served_name, args.neuron_cores) == ([512, 768], "sd", 2)


@BOTH
@pytest.mark.parametrize(("cores", "per_worker"), [(1, 2), (2, 1)])
def test_a_replica_takes_its_neuron_cores(base: dict[str, Any], cores: int, per_worker: int) -> None:
    planned = plan(base, **ON_NEURON, neuronCores=cores, replicas={"min": 2, "max": 2})
    assert planned.placement.replicas_per_worker == per_worker
    assert planned.placement.min_workers == 2 // per_worker
    assert deployments(planned)["Engine"]["ray_actor_options"]["resources"] == {"neuron_cores": cores}


@BOTH
def test_on_nvidia_a_replica_takes_a_gpu_and_on_cpu_nothing(base: dict[str, Any]) -> None:
    on_gpu = plan(base, accelerator="nvidia")
    assert on_gpu.application["args"]["device"] == "cuda"
    assert deployments(on_gpu)["Engine"]["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 1}
    assert deployments(plan(base))["Engine"]["ray_actor_options"] == {"num_cpus": 1.0}


@BOTH
def test_the_release_id_and_the_api_are_those_of_every_model(base: dict[str, Any]) -> None:
    planned = plan(base)
    assert deployments(planned)["Api"]["user_config"] == {"release": planned.release}


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (
            EMBEDDINGS,
            {"neuronCores": 2},
            "neuronCores 2 counts NeuronCores, and accelerator 'cpu' has none",
        ),
        (IMAGES, {**ON_NEURON, "neuronCores": 3}, "use 1 or 2, and more replicas"),
        (IMAGES, {"sizes": [500]}, "multiple of 64"),
        (IMAGES, {"sizes": []}, "at least 1 item"),
        (EMBEDDINGS, {"maxInputTokens": 4}, "greater than or equal to 8"),
        (EMBEDDINGS, {"slots": 4}, "Extra inputs"),
        (EMBEDDINGS, {"cpusPerReplica": 2}, "leaves nothing of worker.cpus"),
    ],
)
def test_what_cannot_be_is_refused(base: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        plan(base, **changes)


def test_more_cores_than_a_node_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"neuronCores: 3 is not possible on inf2.8xlarge.*one of 1, 2"):
        plan(EMBEDDINGS, **ON_NEURON, neuronCores=3)
