"""Reads `Pulumi.yaml` and `Pulumi.<stack>.yaml` as the Pulumi CLI does, up to the text the program gets.

The CLI checks a stack's values against the types that `Pulumi.yaml` declares before it runs the program; so
does `read_stack`. Values under `secure:` cannot be decrypted here: a placeholder stands in for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from infra.config_phrases import shown
from offline.errors import OfflineError
from offline.stack_yaml import load_yaml

PROJECT_FILE = "Pulumi.yaml"

# What the CLI accepts as a stack name; it keeps a name from being a path, too.
_STACK_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True)
class StackSettings:
    """A stack's configuration as its program receives it.

    `config` maps full keys (`project:key`) to text; objects and lists are JSON. `secret_keys` are the keys
    whose value is, or contains, a secret.
    """

    project: str
    stack: str
    config: dict[str, str]
    secret_keys: list[str]


def find_project(start: Path) -> Path:
    """The nearest directory with a Pulumi.yaml, from `start` upwards. Raises `OfflineError`."""
    start = start.resolve()
    for directory in (start, *start.parents):
        if (directory / PROJECT_FILE).is_file():
            return directory
    raise OfflineError(
        f"no {PROJECT_FILE} in {start} or above it; change into the project or name it with --project-dir"
    )


def stack_name_of(stack_file: Path) -> str:
    """The stack that a file `Pulumi.<stack>.yaml` anywhere is for. Raises `OfflineError`."""
    name = stack_file.name.removeprefix("Pulumi.").removesuffix(".yaml")
    if stack_file.name != f"Pulumi.{name}.yaml" or not _STACK_NAME.fullmatch(name):
        raise OfflineError(f"--stack-file {stack_file}: its name must be Pulumi.<stack>.yaml")
    return name


def read_stack(
    project_dir: Path,
    stack: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    stack_file: Path | None = None,
) -> StackSettings:
    """Read and check a stack's configuration; `overrides` replace values of the stack file.

    The file is the project's `Pulumi.<stack>.yaml` unless `stack_file` names another one, as the CLI's
    `--config-file` does. Keys without a namespace are the project's. Raises `OfflineError` naming file,
    key and way out.
    """
    project_file = project_dir / PROJECT_FILE
    if not project_file.is_file():
        raise OfflineError(f"no {PROJECT_FILE} in {project_dir}; name the project with --project-dir")
    project = _mapping(load_yaml(project_file), project_file)
    name = project.get("name")
    if not isinstance(name, str) or not name:
        raise OfflineError(f"{PROJECT_FILE}: name is {name!r}; a project needs a name")
    stack_file = stack_file or _stack_file(project_dir, stack)
    if not stack_file.is_file():
        raise OfflineError(f"--stack-file {stack_file}: there is no such file")
    stack_config = _mapping(_mapping(load_yaml(stack_file), stack_file).get("config"), stack_file, "config")
    declared = _mapping(project.get("config"), project_file, "config")
    values = {_full_key(name, key): value for key, value in {**stack_config, **(overrides or {})}.items()}
    values = _with_declarations(name, stack, declared, values)
    return StackSettings(
        project=name,
        stack=stack,
        config={key: _text(key, value) for key, value in values.items()},
        secret_keys=[key for key, value in values.items() if _holds_secret(value)],
    )


def _stack_file(project_dir: Path, stack: str) -> Path:
    if not _STACK_NAME.fullmatch(stack):
        raise OfflineError(
            f"{stack!r} cannot name a stack: a name is 1 to 100 letters, digits, hyphens, underscores, dots"
        )
    path = project_dir / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        files = project_dir.glob("Pulumi.*.yaml")
        stacks = sorted(file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in files)
        there = f"stacks here: {', '.join(stacks)}" if stacks else f"{project_dir} has no stack file at all"
        raise OfflineError(f"stack {stack!r} does not exist: there is no {path.name}; {there}")
    return path


def _mapping(value: Any, path: Path, key: str | None = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        where = f"{path.name}: {key}" if key else path.name
        raise OfflineError(f"{where} holds {shown(value)}; it must be a mapping of keys to values")
    return {str(name): entry for name, entry in cast("dict[Any, Any]", value).items()}


def _full_key(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _named(project: str, full_key: str) -> str:
    """A key as errors name it: without the project, as the program's own errors do."""
    return full_key.removeprefix(f"{project}:")


def _with_declarations(
    project: str, stack: str, declared: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """`values` with the project's defaults, checked against the declared types."""
    result = dict(values)
    findings: list[str] = []
    for short_key, entry in declared.items():
        key = _full_key(project, short_key)
        # A plain value instead of a declaration is its default.
        declaration: dict[str, Any] = entry if isinstance(entry, dict) else {"default": entry}
        preset = declaration.get("default", declaration.get("value"))
        if key not in result and preset is not None:
            result[key] = preset
        name = _named(project, key)
        if key in result:
            findings += [f"{name}: {wrong}" for wrong in _wrong(key, declaration, result[key])]
        elif key.startswith(f"{project}:"):
            findings.append(f"{name}: missing, and {PROJECT_FILE} declares it without a default; add it")
    if findings:
        lines = "".join(f"\n  - {finding}" for finding in findings)
        raise OfflineError(f"the configuration of stack {stack!r} does not fit {PROJECT_FILE}:{lines}")
    return result


def _wrong(key: str, declaration: Mapping[str, Any], value: Any) -> Iterator[str]:
    if declaration.get("secret") and not _holds_secret(value):
        yield (
            f"stands in plain text, and {PROJECT_FILE} declares it as a secret; set it with "
            f"`pulumi config set --secret {key}`"
        )
    elif "type" in declaration and not _is_secure(value) and not _has_type(value, declaration):
        yield f"{shown(value)} is not of the type {_type_name(declaration)}, which {PROJECT_FILE} declares"


def _has_type(value: Any, declaration: Mapping[str, Any]) -> bool:
    # A scalar reaches the program as text, so the CLI lets any scalar pass as a string and "8" as an integer.
    scalar = None if isinstance(value, dict | list) else _scalar(value)
    match declaration.get("type"):
        case "string":
            return scalar is not None
        case "integer":
            return scalar is not None and re.fullmatch(r"[-+]?\d+", scalar) is not None
        case "boolean":
            return scalar in ("true", "false")
        case "object":
            return isinstance(value, dict)
        case "array":
            items = declaration.get("items")
            if not isinstance(items, dict):
                raise OfflineError(
                    f"{PROJECT_FILE} declares an array without its items; add items: {{type: T}}"
                )
            of_items = cast("dict[str, Any]", items)
            return isinstance(value, list) and all(
                _has_type(entry, of_items) for entry in cast("list[Any]", value)
            )
        case other:
            raise OfflineError(
                f"{PROJECT_FILE} declares the type {other!r}; "
                "choose one of string, integer, boolean, object, array"
            )


def _type_name(declaration: Mapping[str, Any]) -> str:
    if declaration["type"] == "array":
        return f"array<{_type_name(declaration['items'])}>"
    return declaration["type"]


def _text(key: str, value: Any) -> str:
    plain = _without_ciphertext(key, value)
    return json.dumps(plain) if isinstance(plain, dict | list) else _scalar(plain)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_secure(value: Any) -> bool:
    return isinstance(value, dict) and list(cast("dict[str, Any]", value)) == ["secure"]


def _holds_secret(value: Any) -> bool:
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return _is_secure(entries) or any(_holds_secret(entry) for entry in entries.values())
    return isinstance(value, list) and any(_holds_secret(entry) for entry in cast("list[Any]", value))


def _without_ciphertext(key: str, value: Any) -> Any:
    """`value` with a placeholder for each `secure:` part; the real one exists only where it is decrypted."""
    if _is_secure(value):
        return f"placeholder-of-the-secret-{key.replace(':', '-')}"
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return {name: _without_ciphertext(key, entry) for name, entry in entries.items()}
    if isinstance(value, list):
        return [_without_ciphertext(key, entry) for entry in cast("list[Any]", value)]
    return value
