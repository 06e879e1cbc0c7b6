"""Published schemas and chart values that manifests are checked against: data, kept outside this repository.

They are looked for in $SCHEMAS_DIR, in the project's download cache and next to the checkout.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

_CHECKOUT = Path(__file__).resolve().parent.parent
_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def load(name: str) -> Any:
    """The content of the YAML file `name`; skips the test where no directory has it."""
    shared = _CHECKOUT.parent / "shared"
    directories = [_CHECKOUT / ".cache" / "schemas", shared / "crds", shared / "chart-values"]
    if "SCHEMAS_DIR" in os.environ:
        directories.insert(0, Path(os.environ["SCHEMAS_DIR"]))
    for directory in directories:
        if (directory / name).is_file():
            return yaml.load((directory / name).read_text(), Loader=_loader)
    pytest.skip(f"{name} is in none of {', '.join(map(str, directories))}; name one with SCHEMAS_DIR")


@cache
def custom_resource_schema(name: str, version: str) -> dict[str, Any]:
    """JSON schema of a custom resource, which refuses fields that the API server would silently drop."""
    definition = load(name)
    (served,) = [entry for entry in definition["spec"]["versions"] if entry["name"] == version]
    schema = _strict(served["schema"]["openAPIV3Schema"])
    # The CRD leaves the type of metadata to the API server.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(entry) for key, entry in schema.items()}
    closed = isinstance(strict.get("properties"), dict) and "additionalProperties" not in strict
    if closed and not strict.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict
