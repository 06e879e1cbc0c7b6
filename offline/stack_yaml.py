"""Reads YAML as the Pulumi CLI does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from offline.errors import OfflineError


class _Loader(yaml.SafeLoader):
    """Scalars as the CLI's YAML parser reads them, and no key twice.

    PyYAML follows YAML 1.1, where `on` is true, `1:30` is 90 and `2026-11-01` a date; to the CLI those are
    strings (`resolve` in resolve.go of gopkg.in/yaml.v3, v3.0.1).
    """


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0[bB][01][01_]*|0[oO]?[0-7][0-7_]*|0[xX][0-9a-fA-F][0-9a-fA-F_]*|[1-9][0-9_]*|0)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "").lower()
    # 0123 is octal to the CLI, as it was in YAML 1.1.
    return int(re.sub(r"^([-+]?)0(?=\d)", r"\g<1>0o", digits), 0)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value in keys:
            raise yaml.MarkedYAMLError(
                problem=f"the key {key_node.value!r} stands here for the second time",
                problem_mark=key_node.start_mark,
            )
        keys.add(key_node.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def load_yaml(path: Path) -> Any:
    """What a file says. Raises `OfflineError` with the line where it is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise OfflineError(f"{path.name}{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OfflineError(f"{path.name} is not YAML in UTF-8: {error}") from None
