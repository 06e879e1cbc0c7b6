"""What is said of a wrong value: one list of phrasings, and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from infra.config_keys import Key, Schema

# Longest piece of a user's value that an error shows.
_SHOWN_VALUE_CHARS = 80
# A text by such a name is not shown, wherever it stands.
_SECRET_NAME = re.compile(r"(?i)key|token|secret|password|credential")

# What is wrong, by pydantic's type of the error (https://docs.pydantic.dev/latest/errors/validation_errors/).
# `_misplaced` goes before it, with what is wrong with a value whatever pydantic calls it.
_MISSING = "missing"
_PROBLEMS = {
    "missing": _MISSING,
    "union_tag_not_found": _MISSING,
    "greater_than": "{value} is too small",
    "greater_than_equal": "{value} is too small",
    "less_than": "{value} is too large",
    "less_than_equal": "{value} is too large",
    "multiple_of": "{value} is not a multiple of {multiple_of}",
    "finite_number": "{value} is not a finite number",
    "too_short": "{value} has too few entries",
    "too_long": "{value} has too many entries",
    "string_too_short": "{value} is too short",
    "string_too_long": "{value} is too long",
    "string_pattern_mismatch": "{value} does not have the right form",
    "literal_error": "{value} is not allowed",
    "union_tag_invalid": "{value} is not allowed",
}
# What a value is, in YAML's words, and what JSON schema calls the kinds that take it.
_KINDS: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (bool, "a boolean", ("boolean",)),
    (int, "a number", ("integer", "number")),
    (float, "a number", ("number",)),
    (str, "text", ("string",)),
    (list, "a list", ("array",)),
    (dict, "a mapping", ("object",)),
)
# What YAML reads as a number or a boolean, unless it stands in quotes.
_NOT_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)|true|false")


def nearest(name: str, known: Sequence[str]) -> str:
    """A clause that names the closest known key, or all of them where none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(sorted(known))}"


class Concealed(str):
    """A text that must not be shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[secret]"


def concealed(value: Any) -> Any:
    """A value with all of its texts concealed."""
    match value:
        case str():
            return Concealed(value)
        case dict():
            entries = cast("dict[str, Any]", value)
            return {name: concealed(entry) for name, entry in entries.items()}
        case list():
            return [concealed(entry) for entry in cast("list[Any]", value)]
        case _:
            return value


def shown(value: Any) -> str:
    """A value as it may stand in an error message: YAML on one line, and not all of a long one."""
    text = _yaml(value)
    return text if len(text) <= _SHOWN_VALUE_CHARS else text[: _SHOWN_VALUE_CHARS - 1] + "…"


def misfit(type_: str, value: Any, limits: Mapping[str, Any], key: Key) -> str:
    """What is wrong with the value of a key, by pydantic's type of the error, and what to write instead."""
    problem = _PROBLEMS.get(type_, "{value} is not accepted")
    if problem == _MISSING:
        return f"{problem}; write {_wanted(key)}"
    problem = (_misplaced(value, key.kind) or problem).format(**limits, value=shown(value))
    return f"{problem}; write {_wanted(key)}{_hint(value, key)}"


def _misplaced(value: Any, kind: str | None) -> str | None:
    """What is wrong with a value that no key of this kind takes; None if there is nothing."""
    if value is None:
        return "no value"
    if value == "":
        return "{value} is empty"
    if kind == "integer" and isinstance(value, float):
        return "{value} is not whole"
    name, takes_it = next((name, kinds) for type_, name, kinds in _KINDS if isinstance(value, type_))
    return None if kind is None or kind in takes_it else f"{{value}} is {name}"


def _hint(value: Any, key: Key) -> str:
    """What else helps with a value that YAML reads as something else than was meant."""
    if value is None and not key.required:
        return ", or remove the key"
    if key.kind == "string" and "enum" not in key.schema and isinstance(value, bool | int | float):
        return ", in quotes"
    of_text = isinstance(value, str) and _NOT_TEXT.fullmatch(value)
    return ", without quotes" if of_text and key.kind in ("boolean", "integer", "number") else ""


def _wanted(key: Key) -> str:
    schema = key.schema
    if "enum" in schema or "const" in schema:
        return _one_of(schema.get("enum", [schema.get("const")]))
    if key.kind == "boolean":
        return "true or false"
    nouns = {"integer": "a whole number", "number": "a number", "array": "a list", "object": "a mapping"}
    noun = schema.get("form") or nouns.get(key.kind or "", "text") + _range(schema) + _length(schema)
    return noun if key.example is None else f"{noun}, like {_yaml(key.example)}"


def _one_of(values: Sequence[Any]) -> str:
    *others, last = map(_yaml, values)
    choice = f"{', '.join(others)} or {last}" if others else last
    return f"one of {choice}" if len(others) > 1 else choice


def _range(schema: Schema) -> str:
    step = f" that is a multiple of {schema['multipleOf']}," if "multipleOf" in schema else ""
    low, above, high = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if schema.get("type") == "integer" and above is not None:
        low, above = above + 1, None
    if above is not None:
        return f"{step} above {above:g}" + (f" and up to {high:g}" if high is not None else "")
    if low is not None:
        return f"{step} from {low:g} to {high:g}" if high is not None else f"{step} of {low:g} or more"
    return f"{step} of {high:g} or less" if high is not None else step


def _length(schema: Schema) -> str:
    least, most = schema.get("minItems", schema.get("minProperties", 0)), schema.get("maxItems")
    if most is not None:
        return f" of {least} to {most} entries"
    longest = f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
    return " with one entry or more" if least == 1 else f" of {least} entries or more" if least else longest


def _yaml(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            entries = cast("dict[str, Any]", value).items()
            return "{" + ", ".join(f"{name}: {_entry(name, entry)}" for name, entry in entries) + "}"
        case list():
            return "[" + ", ".join(_yaml(entry) for entry in cast("list[Any]", value)) + "]"
        case _:
            return repr(value)


def _entry(name: str, value: Any) -> str:
    return _yaml(concealed(value) if _SECRET_NAME.search(name) else value)
