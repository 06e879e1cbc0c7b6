"""The keys of a stack file as a person writes them: their paths, what each takes, and an example of it.

All of it is read from the JSON schema of the configuration's model (https://json-schema.org/draft/2020-12),
so a key is described once, at its field. There its pattern is said in words, as `form`, and what nobody can
make up has an entry in `examples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    # Offline commands name values with the words of `config_phrases`, and need no model for that.
    from pydantic import BaseModel

Schema = Mapping[str, Any]
Location = Sequence[int | str]
# Stands in a path for the name that a user gave to an entry.
ANY_NAME = "NAME"


@dataclass(frozen=True)
class Key:
    """One key: its path, like `aws.nodePools[0].name`, the schema of its value, and if it must be there."""

    path: str
    schema: Schema
    required: bool = True
    example: Any = None

    @property
    def kind(self) -> str | None:
        """What JSON schema calls the value: string, integer, number, boolean, array, object; None for any."""
        return "object" if "oneOf" in self.schema else self.schema.get("type")


class KeyTree:
    """All keys of a model, reached by the locations that pydantic gives."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: Schema = model.model_json_schema(by_alias=True)

    def at(self, location: Location) -> Key:
        """The key at a location; nothing is known of the value of an unknown key."""
        path, schema, required = "", self._root, True
        for part in location:
            schema = self._resolved(schema)
            if part in (variants := _variants(schema)):
                # pydantic puts the tag of a discriminated union ('llm') here; it is not a key of the file.
                schema = variants[str(part)]
                continue
            required = isinstance(part, int) or part in schema.get("required", _discriminator(schema))
            samples = _samples(schema, self._example(schema))
            path, schema = _joined(path, part), {**samples, **_child(schema, part)}
        schema = self._resolved(schema)
        return Key(path, schema, required, self._example(schema))

    def names(self, location: Location) -> list[str]:
        """Names of the keys that are known at a location."""
        return list(self.at(location).schema.get("properties", {}))

    def homes(self, name: str, location: Location) -> list[str]:
        """Paths of the mappings that know the key `name`: all below a location, or else the nearest above.

        An item of a list is `[]` in them, and an entry by a user's name `NAME`; "" is the top level.
        """
        here = self.at(location)
        below = [path for path, schema in self._mappings(here.path, here.schema) if _knows(schema, name)]
        if below:
            return list(dict.fromkeys(below))
        above = (self.at(location[:end]) for end in reversed(range(len(location))))
        return next(([key.path] for key in above if _knows(key.schema, name)), [])

    def variants(self, name: str, location: Location) -> list[str]:
        """The tags of the other variants of a union that know the key `name`, at the location of one."""
        union = _variants(self.at(location[:-1]).schema) if location else {}
        return [tag for tag, variant in union.items() if _knows(self._resolved(variant), name)]

    def paths(self) -> set[str]:
        """Paths of all keys, in the spelling of `homes`."""
        return {
            _joined(path, name)
            for path, schema in self._mappings("", self._root)
            for name in schema.get("properties", {})
        }

    def _resolved(self, schema: Schema) -> Schema:
        """The schema with its reference followed and `or null` left out; what stands beside those is kept."""
        while "$ref" in schema or "anyOf" in schema:
            others = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
            options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
            target = options[0] if options else self._root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
            schema = {**target, **others}
        return schema

    def _example(self, schema: Schema) -> Any:
        """A value that a key of this schema takes; None where the schema says too little."""
        schema = self._resolved(schema)
        match schema:
            case {"examples": [first, *_]} | {"enum": [first, *_]} | {"const": first}:
                return first
            case {"default": value} if value not in (None, [], {}):
                return value
            case {"oneOf": [first, *_]}:
                return self._example(first)
            case {"properties": properties}:
                names = schema.get("required") or list(properties)[:2]
                return {name: self._example(properties[name]) for name in names}
            case {"items": items}:
                return [self._example(items)]
            case {"type": "integer" | "number"}:
                return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            case _:
                return None

    def _mappings(self, path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
        """Every mapping with fixed keys at a path or below it."""
        schema = self._resolved(schema)
        if "properties" in schema:
            yield path, schema
        for below, child in _children(path, schema):
            yield from self._mappings(below, child)


def _children(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for variant in _variants(schema).values():
        yield path, variant
    for name, child in schema.get("properties", {}).items():
        yield _joined(path, name), child
    if entries := _entries(schema):
        yield _joined(path, ANY_NAME), entries
    if "items" in schema:
        yield f"{path}[]", schema["items"]


def _child(schema: Schema, part: int | str) -> Schema:
    if isinstance(part, int):
        return schema.get("items", {})
    if part in _discriminator(schema):
        return {"type": "string", "enum": list(_variants(schema))}
    return schema.get("properties", {}).get(part) or _entries(schema)


def _samples(schema: Schema, example: Any) -> Schema:
    """What an example of a list or of a mapping of named entries says of their entries."""
    match example:
        case [first, *_]:
            return {"examples": [first]}
        case dict() if example and "properties" not in schema:
            return {"examples": [next(iter(cast("dict[str, Any]", example).values()))]}
        case _:
            return {}


def _variants(schema: Schema) -> dict[str, Schema]:
    mapping: dict[str, str] = schema.get("discriminator", {}).get("mapping", {})
    return {tag: {"$ref": reference} for tag, reference in mapping.items()}


def _discriminator(schema: Schema) -> list[str]:
    return [schema["discriminator"]["propertyName"]] if "discriminator" in schema else []


def _entries(schema: Schema) -> Schema:
    entries = schema.get("additionalProperties")
    return entries if isinstance(entries, dict) else {}


def _joined(path: str, part: int | str) -> str:
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else part


def _knows(schema: Schema, name: str) -> bool:
    return name in schema.get("properties", {})
