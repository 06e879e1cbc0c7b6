"""From a stack to what this machine will deploy: evaluate, pick the service, adapt it, prepare its model."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from offline.errors import OfflineError
from offline.graph import Graph, Resource
from offline.local.local_service import RAY_SERVICE_TYPE, LocalService, from_custom_resource
from offline.local.options import RunOptions
from offline.local.processes import Command, ManagedProcess
from offline.local.substitutions import ModelLimits, Substitution, adapt, share_one_machine
from serve_apps.environment import MODEL_CACHE_ENV
from workloads.serve_config import MODEL_IMPORT_PATHS


@dataclass(frozen=True)
class LocalModel:
    """The model to serve: its name, that under which clients know it, and the package of its app."""

    app: str
    name: str
    served_name: str
    has_keys: bool

    @property
    def has_page(self) -> bool:
        """Whether the chat page has a tab for it."""
        return self.app in ("llm", "stable_diffusion")


@dataclass(frozen=True)
class Plan:
    """What to deploy. `model` is None for an application that is not one of this project's."""

    service: LocalService
    serve_config: dict[str, Any]
    substitutions: list[Substitution]
    model: LocalModel | None


def model_cache(project_dir: Path) -> Path:
    """Where local runs keep converted models; the user's own setting wins."""
    return Path(os.environ.get(MODEL_CACHE_ENV) or project_dir / ".cache" / "models")


def pick_service(graph: Graph, wanted: str | None) -> LocalService:
    """The stack's RayService, or the one of this name, as this machine runs it. Raises `OfflineError`."""
    return from_custom_resource(ray_service(graph, wanted).inputs)


def ray_service(graph: Graph, wanted: str | None) -> Resource:
    """The stack's RayService, or the one of this name. Raises `OfflineError`."""
    services = {resource.name: resource for resource in graph.by_type(RAY_SERVICE_TYPE)}
    names = ", ".join(services)
    if not services:
        raise OfflineError(f"stack {graph.stack!r} has no service; add one under `services` in its file")
    if wanted is None and len(services) > 1:
        raise OfflineError(f"stack {graph.stack!r} has several services; choose one with --service: {names}")
    name = wanted or next(iter(services))
    if name not in services:
        raise OfflineError(f"--service {name!r}: stack {graph.stack!r} has no such service; it has {names}")
    return services[name]


def make_plan(
    service: LocalService,
    options: RunOptions,
    run_program: Callable[[Command], ManagedProcess],
    say: Callable[[str], None],
) -> Plan:
    """Adapt the service to this machine and prepare its model. Raises `OfflineError`.

    `run_program` starts one that ends with the run at the latest; `say` gets a line for every step of a slow
    preparation.
    """

    @functools.cache
    def prepare(model: str, *, pipeline: bool = False) -> Path:
        command = _prepare_command(model, options.project_dir, pipeline=pipeline)
        return _prepared(model, run_program(command), say)

    service, shared = share_one_machine(service)
    serve_config, substitutions = adapt(
        service.serve_config,
        service.worker,
        host=options.api.host,
        port=options.api.port,
        grpc_port=options.grpc.port if options.grpc else None,
        limits_of=lambda model: _limits(prepare(model)),
    )
    found = [_model(application) for application in serve_config["applications"]]
    model = next((model for model in found if model), None)
    if model:
        prepare(model.name, pipeline=model.app == "stable_diffusion")
    return Plan(service, serve_config, shared + substitutions, model)


def _model(application: Mapping[str, Any]) -> LocalModel | None:
    if application["import_path"] not in MODEL_IMPORT_PATHS:
        return None
    args = application["args"]
    package = application["import_path"].split(".")[1]
    return LocalModel(package, args["model"], args["served_name"], args["auth"] == "api-keys")


def _prepare_command(model: str, project_dir: Path, *, pipeline: bool) -> Command:
    # A process of its own: a conversion takes a gigabyte, which the supervisor would never give back.
    argv = [sys.executable, "-m", "serve_apps.models", "prepare", model]
    argv += ["--pipeline"] if pipeline else []
    # Progress bars of downloads become lines here, so they may not come many times a second.
    extra = {MODEL_CACHE_ENV: str(model_cache(project_dir)), "TQDM_MININTERVAL": "5"}
    return Command("prepare-model", argv, {**os.environ, **extra})


def _prepared(model: str, process: ManagedProcess, say: Callable[[str], None]) -> Path:
    """The directory of the model, which is the last thing that the program says."""
    last = ""
    for line in process.output():
        if last:
            say(last.split(" s  ", 1)[-1])  # its own clock is of no use beside ours
        last = line
    if process.how_it_ended() != "exit code 0":
        reason = last.removeprefix("error: ")
        raise OfflineError(f"{reason}\n(preparing {model!r}: {process.how_it_ended()}, log {process.log})")
    return Path(last)


def _limits(model_dir: Path) -> ModelLimits:
    config = json.loads((model_dir / "config.json").read_text())
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    keys_and_values = 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * head_dim
    return ModelLimits(
        max_positions=config["max_position_embeddings"],
        kv_elements_per_token=keys_and_values,
        free_memory_bytes=psutil.virtual_memory().available,
    )
