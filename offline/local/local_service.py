"""What a RayService custom resource asks for, in the terms of one machine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from offline.errors import OfflineError

RAY_SERVICE_TYPE = "kubernetes:ray.io/v1:RayService"
# A worker group that names none gets the NeuronCores of one inf2.xlarge, so that placement is real.
_DEFAULT_NEURON_CORES = 2
# Of a pod that says nothing else.
_KUBERNETES_GRACE_S = 30


@dataclass(frozen=True)
class NodeShape:
    """What one Ray node advertises. `resources` are Ray's custom resources, such as `neuron_cores`."""

    cpus: int
    gpus: int
    resources: dict[str, float]
    env: dict[str, str]

    def summary(self) -> str:
        """For people: `4 CPUs, 2 neuron_cores`."""
        amounts = {"CPUs": self.cpus, "GPUs": self.gpus, **self.resources}
        return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items() if amount)


@dataclass(frozen=True)
class LocalService:
    """A RayService as this machine runs it: its serve config, untouched, and the shape of its nodes.

    `worker_grace_s` is how long a worker that was asked to end may take.
    """

    name: str
    serve_config: dict[str, Any]
    head_env: dict[str, str]
    worker: NodeShape
    worker_grace_s: int = _KUBERNETES_GRACE_S


def from_custom_resource(inputs: Mapping[str, Any]) -> LocalService:
    """Read the inputs of a `RayService` custom resource. Raises `OfflineError`."""
    name = inputs["metadata"]["name"]
    spec = inputs["spec"]
    cluster = spec["rayClusterConfig"]
    serve_config = yaml.safe_load(spec["serveConfigV2"])
    if not isinstance(serve_config, dict) or not serve_config.get("applications"):
        raise OfflineError(f"service {name!r}: serveConfigV2 names no application; nothing could answer")
    return LocalService(
        name=name,
        serve_config=serve_config,
        head_env=_plain_env(cluster["headGroupSpec"]),
        worker=_worker_shape(cluster["workerGroupSpecs"][0]),
        worker_grace_s=_grace_s(cluster["workerGroupSpecs"][0]),
    )


def _worker_shape(group: Mapping[str, Any]) -> NodeShape:
    limits = _container(group).get("resources", {}).get("limits", {})
    params = group.get("rayStartParams", {})
    cpus = params.get("num-cpus") or math.ceil(_cpus(limits.get("cpu", "1")))
    resources = group.get("resources") or _quoted_json(params.get("resources", "{}"))
    return NodeShape(
        cpus=int(cpus),
        gpus=int(limits.get("nvidia.com/gpu", 0)),
        resources={"neuron_cores": _DEFAULT_NEURON_CORES}
        | {key: float(value) for key, value in resources.items() if key not in ("CPU", "GPU", "memory")},
        env=_plain_env(group),
    )


def _grace_s(group: Mapping[str, Any]) -> int:
    return group["template"]["spec"].get("terminationGracePeriodSeconds", _KUBERNETES_GRACE_S)


def _container(group: Mapping[str, Any]) -> Mapping[str, Any]:
    return group["template"]["spec"]["containers"][0]


def _plain_env(group: Mapping[str, Any]) -> dict[str, str]:
    """Variables with a value of their own; what comes from Kubernetes secrets does not exist here."""
    return {entry["name"]: entry["value"] for entry in _container(group).get("env", []) if "value" in entry}


def _cpus(quantity: str) -> float:
    """Kubernetes' CPU quantity, such as `3500m` or `4`."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _quoted_json(text: str) -> dict[str, Any]:
    """`rayStartParams.resources` goes through a shell in the pod, so its JSON comes quoted."""
    return json.loads(text.strip("'\"").replace('\\"', '"'))
