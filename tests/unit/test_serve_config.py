from __future__ import annotations

from typing import Any

import pytest
import yaml
from ray.serve import config as ray_config
from ray.serve import schema as ray_schema

from infra.config_errors import ConfigError
from infra.service_base import ModelService
from infra.service_config import EmbeddingsService, StableDiffusionService
from serve_apps.llm.args import LlmArgs
from tests.unit.plans import CPU, NEURON, OWN, SECRETS, plan
from workloads.serve_schema import KNOWN_KEYS
from workloads.service_plan import plan_service

ALL = pytest.mark.parametrize("base", [CPU, NEURON, OWN], ids=["cpu", "neuron", "bring-your-own"])


def serve_config(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return yaml.safe_load(plan(base, **changes).spec["serveConfigV2"])


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in config["applications"][0]["deployments"] if item["name"] == name)


@ALL
def test_ray_accepts_the_serve_config(base: dict[str, Any]) -> None:
    parsed = ray_schema.ServeDeploySchema.model_validate(serve_config(base))
    assert [application.name for application in parsed.applications] == ["chat"]


def test_the_app_accepts_its_arguments() -> None:
    args = LlmArgs.model_validate(serve_config(NEURON)["applications"][0]["args"])
    assert (args.engine, args.device, args.tensor_parallel) == ("transformers-neuronx", "neuron", 2)
    assert args.served_name == "chat"


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ((), ray_schema.ServeDeploySchema),
        (("http_options",), ray_schema.HTTPOptionsSchema),
        (("grpc_options",), ray_schema.gRPCOptionsSchema),
        (("logging_config",), ray_schema.LoggingConfig),
        (("applications",), ray_schema.ServeApplicationSchema),
        (("applications", "deployments"), ray_schema.DeploymentSchema),
        (("applications", "deployments", "ray_actor_options"), ray_schema.RayActorOptionsSchema),
        (("applications", "deployments", "autoscaling_config"), ray_config.AutoscalingConfig),
        (("applications", "deployments", "backpressure_config"), ray_config.BackpressureConfig),
    ],
)
def test_the_table_of_known_keys_is_rays_own(place: tuple[str, ...], model: Any) -> None:
    known: Any = KNOWN_KEYS
    for key in place:
        known = known[key]
    assert set(known) == set(model.model_fields)


@pytest.mark.parametrize(
    ("deployments", "expected"),
    [
        ([{"name": "A", "num_replica": 2}], "deployments[0].num_replica: unknown key"),
        (
            [{"name": "A"}, {"name": "B", "ray_actor_options": {"num_cpu": 1}}],
            "deployments[1].ray_actor_options.num_cpu: unknown key of a Ray Serve config; "
            "did you mean 'num_cpus'?",
        ),
        (
            [{"name": "A", "autoscaling_config": {"target_num_ongoing_requests_per_replica": 1}}],
            "autoscaling_config.target_num_ongoing_requests_per_replica: unknown key",
        ),
    ],
)
def test_a_key_that_ray_would_ignore_is_refused(deployments: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(OWN, deployments=deployments)
    assert expected in str(refused.value)


def test_free_form_objects_may_hold_any_key() -> None:
    deployments = [
        {"name": "A", "user_config": {"anything": 1}, "ray_actor_options": {"resources": {"x": 1}}}
    ]
    assert deployment(serve_config(OWN, deployments=deployments), "A")["user_config"] == {"anything": 1}


def test_the_engine_reserves_its_neuron_cores() -> None:
    engine = deployment(serve_config(NEURON), "Engine")
    assert engine["ray_actor_options"]["resources"] == {"neuron_cores": 2}
    assert engine["autoscaling_config"]["max_replicas"] == 12


def test_a_cpu_service_asks_for_no_accelerator() -> None:
    text = plan(CPU).spec["serveConfigV2"]
    assert "neuron" not in text
    assert "num_gpus" not in text


def test_a_gpu_service_asks_for_one_gpu_a_replica() -> None:
    config = serve_config(CPU, accelerator="nvidia")
    assert deployment(config, "Engine")["ray_actor_options"]["num_gpus"] == 1
    assert config["applications"][0]["args"]["device"] == "cuda"


def test_the_app_answers_before_the_proxy_gives_up() -> None:
    config = serve_config(CPU, requestTimeoutSeconds=100)
    assert config["http_options"]["request_timeout_s"] > 100
    assert config["applications"][0]["args"]["request_timeout_s"] == 100
    for name in ("Api", "Engine"):
        assert deployment(config, name)["graceful_shutdown_timeout_s"] >= 100


def test_an_engine_with_a_queue_of_its_own_is_sent_all_that_the_api_holds() -> None:
    config = serve_config(NEURON)
    api, engine = deployment(config, "Api"), deployment(config, "Engine")
    assert engine["max_ongoing_requests"] == api["num_replicas"] * api["max_ongoing_requests"]
    args = config["applications"][0]["args"]
    admitted = 12 * (args["slots"] + args["max_queue"])
    assert api["max_ongoing_requests"] > admitted == engine["max_queued_requests"]


@pytest.mark.parametrize(
    ("model", "changes", "together"),
    [
        (EmbeddingsService, {"app": "embeddings", "maxBatch": 8}, 8),
        (StableDiffusionService, {"app": "stable-diffusion"}, 1),
    ],
)
def test_serve_keeps_the_queue_of_engines_that_have_none(
    model: type[ModelService], changes: dict[str, Any], together: int
) -> None:
    said = model.model_validate(CPU | changes | {"maxQueue": 5})
    made = plan_service("chat", said, SECRETS)
    engine = deployment(yaml.safe_load(made.spec["serveConfigV2"]), "Engine")
    assert engine["max_ongoing_requests"] == engine["max_queued_requests"] == together + 5


def test_code_from_a_bucket_is_the_working_directory() -> None:
    url = "s3://artifacts/llm-0123.zip"
    application = serve_config(CPU, codeUrl=url)["applications"][0]
    assert application["runtime_env"] == {"working_dir": url}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, {"max_surge_percent": 100}), (2, {"max_replicas_per_node": 1})],
)
def test_a_single_api_stays_until_the_next_one_answers_and_two_sit_apart(
    count: int, expected: dict[str, int]
) -> None:
    api = deployment(serve_config(CPU, replicas={"min": count, "max": count}), "Api")
    keys = ("max_surge_percent", "max_replicas_per_node")
    assert {key: api[key] for key in keys if key in api} == expected


def test_the_release_stands_in_the_ingress_only() -> None:
    made = plan(CPU)
    config = yaml.safe_load(made.spec["serveConfigV2"])
    assert deployment(config, "Api")["user_config"] == {"release": made.release}
    assert "user_config" not in deployment(config, "Engine")


def replicas(least: int, most: int) -> str:
    return plan(CPU, replicas={"min": least, "max": most}).release


def test_numbers_of_replicas_are_not_part_of_the_release() -> None:
    assert replicas(2, 2) == replicas(3, 3)
    assert replicas(2, 3) == replicas(2, 6)


def test_replicas_that_begin_to_scale_by_themselves_make_a_release() -> None:
    assert replicas(2, 2) != replicas(2, 3)


def test_a_second_copy_of_the_api_makes_a_release_because_the_first_one_reloads() -> None:
    assert replicas(1, 1) != replicas(2, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"slots": 4},
        {"maxModelLen": 1024},
        {"image": "i:2"},
        {"worker": {"cpus": 3, "memoryGib": 4}},
        {"codeUrl": "s3://b/c.zip"},
        {"model": "other"},
    ],
)
def test_code_arguments_and_pod_shape_make_a_release(changes: dict[str, Any]) -> None:
    assert plan(CPU, **changes).release != plan(CPU).release


def test_a_worker_gets_no_more_replicas_than_it_was_made_for() -> None:
    # KubeRay rounds 1.5 CPUs up to two, so Ray has a CPU left, and memory counts for nothing.
    small = CPU | {"worker": {"cpus": 1.5, "memoryGib": 2.75}, "cpusPerReplica": 0.5}
    made = plan(small, replicas={"min": 2, "max": 2})
    assert made.placement.replicas_per_worker == 1
    (engine,) = [d for d in made.application["deployments"] if d["name"] == "Engine"]
    assert engine["max_replicas_per_node"] == 1
