"""What rules look at and what they answer, the same for a graph of `offline` and for Pulumi's analyzer.

The two differ in two ways. A value that only a deployment knows is `UNKNOWN` here; the analyzer raises
for it.
A secret is `SECRET` in a graph; the analyzer hands its plain text to a policy (pulumi-policy unwraps secrets
before a policy sees them), so a rule that asks whether something is a secret needs a graph: `graph_only`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

from pulumi_policy import PolicyResource, ResourceValidationArgs
from pulumi_policy.proxy import UnknownValueError


class _Marker:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


# The program's tag for `aws.environment`.
ENVIRONMENT_TAG = "neuron-serve/environment"

UNKNOWN: Any = _Marker("UNKNOWN")
SECRET: Any = _Marker("SECRET")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource under examination; `sources` are the URNs that each property's value comes from."""

    type: str
    name: str
    urn: str
    props: dict[str, Any]
    sources: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    @property
    def environment(self) -> str | None:
        """`dev` or `prod`, where the resource has tags of its own or for the machines it describes."""
        for path in ("tags", "spec.tags"):
            value = as_dict(self.at(path)).get(ENVIRONMENT_TAG)
            if isinstance(value, str):
                return value
        return None

    def at(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path; `UNKNOWN` or `SECRET` if it or something above it is."""
        value: Any = self.props
        for key in path.split("."):
            if value is UNKNOWN or value is SECRET:
                return value
            value = cast("dict[str, Any]", value).get(key, default) if isinstance(value, dict) else default
        return default if value is None else value


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One resource, of one environment if it has that tag, that breaks one rule."""

    rule: str
    urn: str
    resource: str
    message: str
    environment: str | None = None


ResourceCheck = Callable[[Resource], Iterator[str]]
StackCheck = Callable[[Sequence[Resource]], Iterator[tuple[Resource, str]]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: what it demands, why, and the way out. Exactly one of the two checks is set."""

    name: str
    description: str
    why: str
    way_out: str
    check: ResourceCheck | None = None
    check_stack: StackCheck | None = None
    graph_only: bool = False

    def violations(self, resources: Sequence[Resource]) -> Iterator[Violation]:
        """Everything in a stack that breaks the rule."""
        if self.check_stack:
            found = self.check_stack(resources)
        else:
            check = cast("ResourceCheck", self.check)
            found = ((resource, message) for resource in resources for message in check(resource))
        for resource, message in found:
            label = f"{resource.type.rpartition(':')[2]} {resource.name}"
            yield Violation(
                rule=self.name,
                urn=resource.urn,
                resource=label,
                message=message,
                environment=resource.environment,
            )


def is_exempt(violation: Violation, exempt: Iterable[str], environments: Iterable[str] = ()) -> bool:
    """Whether a pattern of the form `STACK/NAME` (`*/neuron-monitor`) names the resource, or its environment
    is one of those given.
    """
    stack, name = violation.urn.split(":")[2], violation.urn.rpartition("::")[2]
    named = any(fnmatchcase(f"{stack}/{name}", pattern) for pattern in exempt)
    return named or violation.environment in set(environments)


def from_graph(resource: Mapping[str, Any]) -> Resource:
    """A resource of a graph in JSON (`python -m offline graph --format json`)."""
    return Resource(
        type=resource["type"],
        name=resource["name"],
        urn=resource["urn"],
        props=_from_marked(resource["inputs"]),
        sources={key: frozenset(urns) for key, urns in resource["propertyDependencies"].items()},
    )


def from_analyzer(args: ResourceValidationArgs | PolicyResource) -> Resource:
    """A resource as Pulumi's analyzer presents it."""
    sources: dict[str, frozenset[str]] = {}
    if isinstance(args, PolicyResource):
        sources = {
            key: frozenset(resource.urn for resource in resources)
            for key, resources in args.property_dependencies.items()
        }
    return Resource(
        type=args.resource_type, name=args.name, urn=args.urn, props=_from_proxy(args.props), sources=sources
    )


def document(text: Any) -> Any:
    """JSON text as what it says: an IAM policy; `UNKNOWN` where the text is."""
    if isinstance(text, str):
        try:
            return json.loads(text)
        except ValueError:
            return UNKNOWN
    return UNKNOWN if text is SECRET else text


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing and what is not known as none, any other value as a list of one."""
    if value is None or value is UNKNOWN or value is SECRET:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def as_dict(value: Any) -> dict[str, Any]:
    """An object as it is, anything else as an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def is_false(value: Any) -> bool:
    """Whether a setting is known and off; providers take booleans as text too."""
    return value in (None, False, "false")


def _from_marked(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_marked(entry) for entry in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value)
    if "$unknown" in entries:
        return UNKNOWN
    if "$secret" in entries:
        return SECRET
    return {key: _from_marked(entry) for key, entry in entries.items()}


def _from_proxy(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        return {key: _known(entries, key) for key in entries}
    if isinstance(value, Sequence):
        items = cast("Sequence[Any]", value)
        return [_known(items, index) for index in range(len(items))]
    return value


def _known(container: Any, key: Any) -> Any:
    try:
        return _from_proxy(container[key])
    except UnknownValueError:
        return UNKNOWN
