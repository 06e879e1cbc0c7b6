"""Stacks on AWS for the tests of what services come to together."""

from __future__ import annotations

from typing import Any

from infra.config import StackConfig

SERVICE = {
    "app": "llm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "accelerator": "neuron",
    "instanceType": "inf2.8xlarge",
    "tensorParallel": 2,
    "image": "i:1",
    "replicas": {"min": 1, "max": 2},
}
POOL = {"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 3}


def stack(
    services: dict[str, dict[str, Any]] | None = None,
    *,
    pools: list[dict[str, Any]] | None = None,
    gcs_store: dict[str, Any] | None = None,
    **aws: Any,
) -> StackConfig:
    """A stack on AWS; each service is `SERVICE` with changes."""
    changes = services or {"chat": {}}
    keys: dict[str, Any] = {
        "target": "aws",
        "aws": {
            "zones": ["us-west-2a", "us-west-2b"],
            "cluster": {"version": "1.35"},
            "nodePools": pools or [POOL],
            **aws,
        },
        "services": {name: SERVICE | change for name, change in changes.items()},
    }
    if gcs_store:
        keys["gcsStore"] = gcs_store
    return StackConfig.model_validate(keys)
