"""Turns pydantic's findings into sentences that name the key, the value, the limit and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import pulumi
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

# Longest piece of a user's value that an error shows.
_SHOWN_VALUE_CHARS = 80


class ConfigError(pulumi.RunError):
    """The configuration cannot be built; the message is all that a user needs to see.

    `findings` are sentences, one for each thing that is wrong. `pulumi.RunError` makes the engine print the
    message without a traceback; the offline tools print it and exit with code 2.
    """

    def __init__(self, *findings: str) -> None:
        self.findings = findings
        lines = "".join(f"\n  - {finding}" for finding in self.findings)
        super().__init__(f"invalid configuration, nothing was changed:{lines}")


def explain(error: ValidationError, *, prefix: str, model: type[BaseModel]) -> list[str]:
    """One sentence for each finding of pydantic in `model`, with `prefix` before the key's path."""
    return [_explain_one(details, prefix, model) for details in error.errors()]


def nearest(name: str, known: Sequence[str]) -> str:
    """A clause that names the closest known key, or all of them where none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(sorted(known))}"


def shown(value: Any) -> str:
    """A value as it may stand in an error message."""
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE_CHARS else text[: _SHOWN_VALUE_CHARS - 1] + "…"


def _explain_one(details: ErrorDetails, prefix: str, model: type[BaseModel]) -> str:
    location = [part for part in details["loc"] if not _is_union_tag(part, details)]
    path = prefix + ".".join(str(part) for part in location)
    value = details["input"]
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            known = _keys_at(model, details["loc"][:-1])
            return f"{path}: unknown key; {nearest(str(details['loc'][-1]), known)}"
        case "missing":
            return f"{path}: missing; this key is required"
        case "value_error":
            return f"{path.rstrip('.:')}: {context['error']}"
        case "literal_error" | "union_tag_invalid":
            allowed = context.get("expected") or context.get("expected_tags")
            return f"{path}: {shown(value)} is not allowed; choose one of {allowed}"
        case "union_tag_not_found":
            return f"{path}: missing key {context['discriminator']}; it chooses what kind of entry this is"
        case "greater_than_equal" | "greater_than":
            bound = context.get("ge", context.get("gt"))
            relation = "at least" if "ge" in context else "greater than"
            return f"{path}: {shown(value)} is too small; it must be {relation} {bound}"
        case "less_than_equal" | "less_than":
            bound = context.get("le", context.get("lt"))
            relation = "at most" if "le" in context else "less than"
            return f"{path}: {shown(value)} is too large; it must be {relation} {bound}"
        case _:
            return f"{path}: {shown(value)} is not accepted: {details['msg']}"


def _is_union_tag(part: int | str, details: ErrorDetails) -> bool:
    # pydantic puts the tag of a discriminated union ('llm') into the path; it is not a key of the file.
    position = details["loc"].index(part)
    return position == 2 and details["loc"][0] == "services"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the keys that the model knows at a path, as they stand in a stack file."""
    schema = model.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema
    for part in location:
        node = _resolve(node, schema)
        if "oneOf" in node:
            ref = node["discriminator"]["mapping"].get(part)
            node = {"$ref": ref} if ref else {}
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:
            node = node.get("additionalProperties") or node.get("items") or {}
    return list(_resolve(node, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if "$ref" in option:
            node = option
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node
