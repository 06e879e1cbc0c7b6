"""The Ray Serve config of a service: the text that becomes `serveConfigV2` and that a local run deploys.

What a stack's own deployments say is checked by `serve_schema`, because Ray ignores keys it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from infra.config_errors import ConfigError
from infra.grace_periods import LONGEST_REQUEST_S, PROXY_GRACE_S
from infra.service_base import ModelService
from infra.service_config import AnyService, BringYourOwnService, Grpc, LlmService
from workloads.app_args import app_args
from workloads.placement import API_CPUS, Placement
from workloads.serve_schema import unknown_keys

SERVE_PORT = 8000
GRPC_PORT = 9000

_IMPORT_PATH = "serve_apps.{}.app:build_app"
LLM_IMPORT_PATH = _IMPORT_PATH.format("llm")
EMBEDDINGS_IMPORT_PATH = _IMPORT_PATH.format("embeddings")
STABLE_DIFFUSION_IMPORT_PATH = _IMPORT_PATH.format("stable_diffusion")
MODEL_IMPORT_PATHS = (LLM_IMPORT_PATH, EMBEDDINGS_IMPORT_PATH, STABLE_DIFFUSION_IMPORT_PATH)
# Names of the two deployments that each of them builds.
API_DEPLOYMENT = "Api"
ENGINE_DEPLOYMENT = "Engine"

# Share of what a replica works on together before Serve adds one: above it, new requests start to queue
# while the next replica loads.
_TARGET_SLOT_USE = 0.8
# A replica is dear to start (minutes of model load), so it is not given up for a short lull.
_DOWNSCALE_DELAY_S = 600
# Serve asks replicas for their health this often; three failures replace one.
_HEALTH_CHECK_PERIOD_S = 5
_HEALTH_CHECK_TIMEOUT_S = 10
# Of a deployment that says nothing else (DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S of ray.serve 2.60).
_SERVE_SHUTDOWN_S = 20
_OVERLOAD = {"status_code": 503, "retry_after_s": 1}


def serve_config(name: str, service: AnyService, placement: Placement) -> dict[str, Any]:
    """The whole Serve config of one service, without its release id. Raises `ConfigError`."""
    http_options: dict[str, Any] = {"host": "0.0.0.0", "port": SERVE_PORT}
    config: dict[str, Any] = {"proxy_location": "EveryNode", "http_options": http_options}
    if isinstance(service, ModelService):
        http_options["request_timeout_s"] = service.request_timeout_seconds + PROXY_GRACE_S
        config["applications"] = [_model_application(name, service, placement)]
    else:
        if service.grpc:
            config["grpc_options"] = _grpc_options(service.grpc)
        config["applications"] = [_own_application(name, service)]
    findings = list(unknown_keys(config, path=f"services.{name}"))
    if findings:
        raise ConfigError(*findings)
    return config


def with_release(config: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The config with the release id in the ingress deployment's `user_config`.

    Only there can it change without reloading a replica: Ray counts `args` and `runtime_env` as part of the
    code version. Applications without our ingress are returned as they are.
    """
    applications: list[dict[str, Any]] = []
    for application in config["applications"]:
        deployments = [
            deployment | {"user_config": {"release": release, **deployment.get("user_config", {})}}
            if deployment["name"] == API_DEPLOYMENT and application["import_path"] in MODEL_IMPORT_PATHS
            else deployment
            for deployment in application["deployments"]
        ]
        applications.append({**application, "deployments": deployments})
    return {**config, "applications": applications}


def _model_application(name: str, service: ModelService, placement: Placement) -> dict[str, Any]:
    args = app_args(name, service)
    return {
        "name": name,
        "route_prefix": "/",
        "import_path": _IMPORT_PATH.format(service.package),
        "args": args.model_dump(mode="json"),
        "runtime_env": _runtime_env(service.code_url),
        # The app writes one line a request itself, with its id and without its text.
        "logging_config": {"encoding": "JSON", "enable_access_log": False},
        "deployments": [_api_deployment(service, placement), _engine_deployment(service, placement)],
    }


def _api_deployment(service: ModelService, placement: Placement) -> dict[str, Any]:
    room = _api_room(service)
    replicas = _api_replicas(placement)
    limits = _limits(service, replicas) if isinstance(service, LlmService) else {}
    return {
        "name": API_DEPLOYMENT,
        "num_replicas": replicas,
        "max_ongoing_requests": room,
        "max_queued_requests": room,
        "backpressure_config": _OVERLOAD,
        "health_check_period_s": _HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": _HEALTH_CHECK_TIMEOUT_S,
        "graceful_shutdown_timeout_s": service.request_timeout_seconds + PROXY_GRACE_S,
        **_api_copies(replicas),
        "ray_actor_options": {"num_cpus": API_CPUS},
        # Not an argument: those count as code, and a new limit would load every model again.
        **({"user_config": {"limits": limits}} if limits else {}),
    }


def _api_replicas(placement: Placement) -> int:
    return min(2, placement.min_workers)


def _api_copies(replicas: int) -> dict[str, int]:
    """How they survive a node, and a reload."""
    if replicas > 1:
        return {"max_replicas_per_node": 1}
    # The only one answers until another beside it does, and keeps requests while the engine is loaded: a
    # worker without any replica refuses connections.
    return {"max_surge_percent": 100}


def _admitted(service: ModelService) -> int:
    """Requests that one engine computes or keeps waiting."""
    return service.together + service.max_queue


def _api_room(service: ModelService) -> int:
    """Requests in one API replica.

    Twice what the engines admit: a refusal by our API is an OpenAI error that says when to come back, the
    proxy's is the last fence before memory.
    """
    return 2 * _admitted(service) * service.replicas.max


def _engine_bounds(service: ModelService, placement: Placement) -> dict[str, int]:
    """Requests that Serve lets through to one engine, and those that it keeps back in one API replica.

    Serve counts every arriving request as kept back for a moment, so a smaller number than the engines admit
    would refuse a burst that they have room for.
    """
    admitted = _admitted(service)
    if isinstance(service, LlmService):
        # All that the API can hold: the engine refuses by itself what its queue does not take. What Serve
        # keeps back waits in every API replica, and Serve looks only every half second whether there is room:
        # an overloaded engine lost a sixth of its throughput, and who was admitted waited four times as long.
        # Nothing is kept back but where there is no engine.
        through, kept_back = _api_replicas(placement) * _api_room(service), admitted * service.replicas.max
    else:
        through = kept_back = admitted
    return {"max_ongoing_requests": through, "max_queued_requests": kept_back}


def _limits(service: LlmService, api_replicas: int) -> dict[str, float]:
    # Each replica counts by itself, so it gets its share: a key that comes to one of them more often is
    # refused a little early, and none gets more than its budget.
    said = (
        ("requests", service.limits.requests_per_minute),
        ("tokens", service.limits.tokens_per_minute),
    )
    return {kind: limit / api_replicas for kind, limit in said if limit is not None}


def _engine_deployment(service: ModelService, placement: Placement) -> dict[str, Any]:
    actor_options: dict[str, Any] = {"num_cpus": service.cpus_per_replica}
    if placement.replica_neuron_cores:
        # Whole cores only: Ray sets NEURON_RT_VISIBLE_CORES from them.
        actor_options["resources"] = {"neuron_cores": placement.replica_neuron_cores}
    if placement.replica_gpus:
        actor_options["num_gpus"] = placement.replica_gpus
    return {
        "name": ENGINE_DEPLOYMENT,
        **_scale(service),
        # Ray counts CPUs and cores, and not memory: another replica would be put beside those that a worker
        # was made for as soon as it has a CPU left.
        "max_replicas_per_node": placement.replicas_per_worker,
        **_engine_bounds(service, placement),
        "health_check_period_s": _HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": _HEALTH_CHECK_TIMEOUT_S,
        "graceful_shutdown_timeout_s": service.request_timeout_seconds + PROXY_GRACE_S,
        # An old replica ends before a new one starts: there are no spare NeuronCores for both.
        "max_surge_percent": 0,
        "ray_actor_options": actor_options,
    }


def _scale(service: ModelService) -> dict[str, Any]:
    bounds = service.replicas
    if bounds.min == bounds.max:
        return {"num_replicas": bounds.min}
    return {
        "autoscaling_config": {
            "min_replicas": bounds.min,
            "max_replicas": bounds.max,
            "target_ongoing_requests": max(1.0, _TARGET_SLOT_USE * service.together),
            "downscale_delay_s": _DOWNSCALE_DELAY_S,
        }
    }


def _grpc_options(grpc: Grpc) -> dict[str, Any]:
    return {
        "port": GRPC_PORT,
        "grpc_servicer_functions": grpc.servicer_functions,
        "request_timeout_s": grpc.request_timeout_seconds,
        "enable_reflection": grpc.reflection,
    }


def _own_application(name: str, service: BringYourOwnService) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": "/",
        "import_path": service.import_path,
        "args": service.args,
        "runtime_env": _runtime_env(service.code_url),
        "deployments": service.deployments,
    }


def replica_patience_s(name: str, service: AnyService) -> int:
    """How long Serve lets a replica end its requests, seconds; the longest of all. Raises `ConfigError`."""
    if isinstance(service, ModelService):
        return service.request_timeout_seconds + PROXY_GRACE_S
    longest = _SERVE_SHUTDOWN_S
    for index, deployment in enumerate(service.deployments):
        patience_s = deployment.get("graceful_shutdown_timeout_s", _SERVE_SHUTDOWN_S)
        if not isinstance(patience_s, int | float) or not 0 <= patience_s <= LONGEST_REQUEST_S:
            raise ConfigError(
                f"services.{name}.deployments[{index}].graceful_shutdown_timeout_s: {patience_s!r} is not "
                f"possible, a node waits for its pods for an hour; choose 0 to {LONGEST_REQUEST_S}"
            )
        longest = max(longest, math.ceil(patience_s))
    return longest


def _runtime_env(code_url: str | None) -> dict[str, Any]:
    return {"working_dir": code_url} if code_url else {}
