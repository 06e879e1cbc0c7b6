"""What a project's program registers, as data: the engine's view of a stack without an engine.

Inputs and outputs are plain JSON values. What is not a plain value is an object with one key:

`{"$unknown": true}`   known only after a deployment
`{"$secret": SHAPE}`   a secret; SHAPE keeps its objects and lists, with every plain value replaced by null
`{"$resource": URN}`   a resource passed as a value
`{"$asset": {...}}`    a file, by `path`, `text` or `uri`
`{"$archive": {...}}`  an archive, by `path`, `uri` or `assets`
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

UNKNOWN: dict[str, Any] = {"$unknown": True}

# Fields of a resource that JSON has only where they are set.
_SELDOM_SET = frozenset(
    (
        "providers",
        "replace_with",
        "retain_on_delete",
        "delete_before_replace",
        "ignore_changes",
        "replace_on_changes",
        "aliases",
        "additional_secret_outputs",
        "import_id",
        "hooks",
        "version",
        "remote",
        "external",
        "id",
    )
)

T = TypeVar("T")


def is_unknown(value: Any) -> bool:
    """Whether a recorded value is known only after a deployment."""
    return value == UNKNOWN


def is_secret(value: Any) -> bool:
    """Whether a recorded value is a secret."""
    return isinstance(value, dict) and "$secret" in value


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One registration request, field by field as the engine receives it.

    `parent`, `provider`, `deleted_with` and all dependencies are URNs. `external` marks a resource that is
    only read (`Type.get(...)`), by `id`. `remote` marks a component that a provider plugin builds; its
    children are not in the graph, because there is no plugin to build them.
    """

    urn: str
    type: str
    name: str
    custom: bool
    parent: str | None = None
    provider: str | None = None
    providers: dict[str, str] = field(default_factory=dict[str, str])
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    dependencies: list[str] = field(default_factory=list[str])
    property_dependencies: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    deleted_with: str | None = None
    replace_with: list[str] = field(default_factory=list[str])
    protect: bool = False
    retain_on_delete: bool = False
    delete_before_replace: bool | None = None
    ignore_changes: list[str] = field(default_factory=list[str])
    replace_on_changes: list[str] = field(default_factory=list[str])
    aliases: list[str | dict[str, Any]] = field(default_factory=list[str | dict[str, Any]])
    custom_timeouts: dict[str, str] | None = None
    additional_secret_outputs: list[str] = field(default_factory=list[str])
    import_id: str | None = None
    hooks: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    version: str | None = None
    remote: bool = False
    external: bool = False
    id: str | None = None

    @property
    def references(self) -> set[str]:
        """URNs of all resources that must be there before this one, apart from its parent."""
        return {
            *self.dependencies,
            *(urn for urns in self.property_dependencies.values() for urn in urns),
            *self.replace_with,
            *(urn for urn in (self.provider, self.deleted_with) if urn is not None),
        }

    @property
    def kind(self) -> str:
        """Last part of the type: `Namespace` of `kubernetes:core/v1:Namespace`."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def label(self) -> str:
        """Kind and name, which tell a reader what the resource is."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class FunctionCall:
    """A provider function that the program calls, for example `aws:index/getRegion:getRegion`."""

    token: str
    arguments: dict[str, Any]
    provider: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """A message of the program to its user, through `pulumi.log`."""

    severity: str
    message: str
    urn: str | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A stack as its program describes it.

    Resources stand in an order in which they can register: as the program makes them, but never before
    something they need.
    """

    project: str
    stack: str
    resources: list[Resource]
    outputs: dict[str, Any]
    calls: list[FunctionCall] = field(default_factory=list[FunctionCall])
    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])

    @cached_property
    def by_urn(self) -> dict[str, Resource]:
        """Resources by URN."""
        return {resource.urn: resource for resource in self.resources}

    def by_type(self, type_: str) -> list[Resource]:
        """Resources of a full type, for example `kubernetes:core/v1:Namespace`."""
        return [resource for resource in self.resources if resource.type == type_]

    def by_name(self, name: str) -> list[Resource]:
        """Resources of a name; several types may share it."""
        return [resource for resource in self.resources if resource.name == name]

    def children(self, urn: str) -> list[Resource]:
        """Resources whose parent is `urn`."""
        return [resource for resource in self.resources if resource.parent == urn]

    def one(self, type_: str, name: str | None = None) -> Resource:
        """The only resource of a type, or of a type and a name. Raises LookupError if there is not one."""
        found = [resource for resource in self.by_type(type_) if name in (None, resource.name)]
        if len(found) != 1:
            wanted = type_ if name is None else f"{type_} named {name!r}"
            there = ", ".join(sorted(f"{resource.type} {resource.name!r}" for resource in self.resources))
            raise LookupError(f"{len(found)} resources are {wanted}; the graph has {there}")
        return found[0]

    @property
    def cost(self) -> dict[str, Any] | None:
        """The stack output `costPerHour`, None for a stack without one."""
        return self.outputs.get("costPerHour")

    def to_json(self) -> dict[str, Any]:
        """Plain data with camelCase keys, for `json.dump`."""
        return {
            "project": self.project,
            "stack": self.stack,
            "resources": [_to_camel(resource) for resource in self.resources],
            "outputs": self.outputs,
            "cost": self.cost,
            "calls": [_to_camel(call) for call in self.calls],
            "diagnostics": [_to_camel(diagnostic) for diagnostic in self.diagnostics],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """The graph that `to_json` described. Raises TypeError or KeyError for any other data."""
        return cls(
            project=data["project"],
            stack=data["stack"],
            resources=[_from_camel(Resource, resource) for resource in data["resources"]],
            outputs=data["outputs"],
            calls=[_from_camel(FunctionCall, call) for call in data["calls"]],
            diagnostics=[_from_camel(Diagnostic, diagnostic) for diagnostic in data["diagnostics"]],
        )


def _to_camel(record: Resource | FunctionCall | Diagnostic) -> dict[str, Any]:
    return {
        _camel(field.name): getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in _SELDOM_SET or getattr(record, field.name) != _default(field)
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _from_camel(record: type[T], data: Mapping[str, Any]) -> T:
    return record(**{re.sub("[A-Z]", lambda upper: "_" + upper[0].lower(), key): data[key] for key in data})


def _camel(name: str) -> str:
    return re.sub("_([a-z])", lambda letter: letter[1].upper(), name)
