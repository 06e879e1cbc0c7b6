"""The Kubernetes objects of a graph as YAML for `kubectl apply -f -`.

Objects come in creation order, namespaces first. Helm releases are not objects: each stands in the header as
the command that installs it. Secrets are not known offline: a value comes from an environment variable that
the header names, and without it the API server refuses the placeholder, because it is no base64.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from offline.graph import Graph, Resource, is_secret, is_unknown
from offline.kubernetes_names import auto_name

_RELEASE_TYPE = "kubernetes:helm.sh/v3:Release"
_AFTER_DEPLOYMENT = "<known only after deployment>"
# What the provider waits for a release by default, as Helm itself does.
_HELM_TIMEOUT_S = 300

# Options of a Helm release that are flags of the command, too.
_HELM_FLAGS = {
    "atomic": "--atomic",
    "cleanupOnFail": "--cleanup-on-fail",
    "dependencyUpdate": "--dependency-update",
    "devel": "--devel",
    "skipCrds": "--skip-crds",
    "waitForJobs": "--wait-for-jobs",
}


@dataclass(frozen=True)
class Manifests:
    """Kubernetes objects, and what must be said about them.

    `secrets` maps names of environment variables to the places that their values belong to; `unknown` names
    the places whose value only a deployment knows; `not_rendered` labels resources that have no objects here.
    """

    helm_commands: list[str]
    objects: list[dict[str, Any]]
    secrets: dict[str, str]
    unknown: list[str]
    not_rendered: list[str]


def manifests(graph: Graph, environment: Mapping[str, str]) -> Manifests:
    """The objects of all Kubernetes resources in `graph`, secrets filled in from `environment`."""
    values = _Values(environment)
    kubernetes = [
        resource
        for resource in graph.resources
        if resource.type.startswith("kubernetes:") and not resource.external
    ]
    releases = [resource for resource in kubernetes if resource.type == _RELEASE_TYPE]
    objects = [resource for resource in kubernetes if resource.custom and resource not in releases]
    return Manifests(
        helm_commands=[_helm_command(release, values) for release in releases],
        objects=sorted(
            (_object(resource, values) for resource in objects),
            key=lambda manifest: manifest["kind"] != "Namespace",
        ),
        secrets=values.secrets,
        unknown=values.unknown,
        not_rendered=[resource.label for resource in kubernetes if not resource.custom],
    )


def to_yaml(manifests: Manifests, title: str) -> str:
    """A multi-document YAML stream with a header that says what to do before `kubectl apply`."""
    header = "".join(f"# {line}".rstrip() + "\n" for line in _header(manifests, title))
    documents = yaml.dump_all(
        manifests.objects,
        Dumper=_Dumper,
        sort_keys=False,
        explicit_start=True,
        allow_unicode=True,
        width=10_000,
    )
    return header + documents


def _header(manifests: Manifests, title: str) -> Iterator[str]:
    yield f"{title}: Kubernetes objects in creation order, for `kubectl apply -f -`."
    if manifests.helm_commands:
        yield "Before them, the Helm releases:"
        yield from manifests.helm_commands
    if manifests.secrets:
        yield "Secrets are read from these environment variables; the API server refuses what is left open:"
        yield from (f"  {variable}  {place}" for variable, place in manifests.secrets.items())
    if manifests.unknown:
        yield f"Values that only a deployment knows; replace {_AFTER_DEPLOYMENT!r} in:"
        yield from (f"  {place}" for place in manifests.unknown)
    if manifests.not_rendered:
        yield "Not here, because a provider plugin makes their objects:"
        yield from (f"  {label}" for label in manifests.not_rendered)


@dataclass
class _Values:
    """Stands in for what the graph does not know, and notes what was asked for.

    A secret's path names its environment variable: `SECRET_<namespace>_<name>_<key>...`.
    """

    environment: Mapping[str, str]
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    unknown: list[str] = field(default_factory=list[str])

    def secret(self, path: Sequence[str], encode: Callable[[str], str] = str) -> str:
        variable = re.sub(r"\W", "_", "_".join(["secret", *path])).upper()
        self.secrets[variable] = "/".join(path)
        text = self.environment.get(variable)
        return f"<set {variable}>" if text is None else encode(text)

    def secret_data(self, path: Sequence[str]) -> str:
        """The same for `data` of a Secret, which is base64; a placeholder stays as it is, to be refused."""
        return self.secret(path, lambda text: base64.b64encode(text.encode()).decode())

    def after_deployment(self, path: Sequence[str]) -> str:
        self.unknown.append("/".join(path))
        return _AFTER_DEPLOYMENT


def _object(resource: Resource, values: _Values) -> dict[str, Any]:
    """The object as `kubectl` takes it: with a name, without what is meant for Pulumi's provider."""
    inputs = dict(resource.inputs)
    metadata: dict[str, Any] = {"name": auto_name(resource.name, resource.urn), **inputs.get("metadata", {})}
    annotations: dict[str, Any] = metadata.pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if not key.startswith("pulumi.com/")}
    if kept:
        metadata["annotations"] = kept
    inputs["metadata"] = metadata
    path = [text for text in (metadata.get("namespace"), metadata["name"]) if isinstance(text, str)]
    if inputs["kind"] != "Secret":
        return _filled(inputs, path, values, values.secret)
    if is_secret(inputs.get("stringData")):
        # As `data`, so that the API server refuses a placeholder.
        data = inputs.get("data", {"$secret": {}})["$secret"]
        inputs["data"] = {"$secret": {**data, **inputs.pop("stringData")["$secret"]}}
    return _filled(inputs, path, values, values.secret_data)


def _filled(
    value: Any,
    path: list[str],
    values: _Values,
    secret: Callable[[Sequence[str]], str],
    *,
    within_secret: bool = False,
) -> Any:
    """A recorded value as a plain one; nulls in objects are left out, as the API server reads them."""
    if is_unknown(value):
        return values.after_deployment(path)
    if is_secret(value):
        return _filled(value["$secret"], path, values, secret, within_secret=True)
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return {
            key: _filled(entries[key], [*path, key], values, secret, within_secret=within_secret)
            for key in sorted(entries, key=_reading_order)
            if entries[key] is not None or within_secret
        }
    if isinstance(value, list):
        return [
            _filled(entry, [*path, str(number)], values, secret, within_secret=within_secret)
            for number, entry in enumerate(cast("list[Any]", value))
        ]
    return secret(path) if within_secret else value


def _helm_command(release: Resource, values: _Values) -> str:
    inputs = release.inputs
    name = inputs.get("name") or auto_name(release.name, release.urn)
    namespace = inputs.get("namespace", "default")
    inputs = _filled(inputs, [namespace, name], values, values.secret)
    command = ["helm", "upgrade", "--install", name, inputs["chart"], "--namespace", namespace]
    command.append("--create-namespace")
    if repository := inputs.get("repositoryOpts", {}).get("repo"):
        command += ["--repo", repository]
    if version := inputs.get("version"):
        command += ["--version", version]
    if not inputs.get("skipAwait"):
        command += ["--wait", "--timeout", f"{inputs.get('timeout', _HELM_TIMEOUT_S)}s"]
    command += [flag for option, flag in _HELM_FLAGS.items() if inputs.get(option)]
    for key, value in inputs.get("values", {}).items():
        # A dot would begin a nested key.
        escaped = key.replace(".", r"\.")
        command += ["--set-json", f"{escaped}={json.dumps(value)}"]
    return shlex.join(command)


def _reading_order(key: str) -> tuple[int, str]:
    first = ("apiVersion", "kind", "metadata", "name", "namespace")
    return (first.index(key) if key in first else len(first), key)


class _Dumper(yaml.SafeDumper):
    """Block style for texts of several lines, no anchors, and quotes around what only looks like a number.

    Kubernetes reads YAML 1.2, to which `12e3` is a number; PyYAML, of YAML 1.1, would leave it bare.
    """

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (PyYAML's signature)
        """Never refer to an equal value elsewhere; people read and edit manifests."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    # PyYAML folds these three into spaces unless they are escaped.
    if re.search("[\x85\u2028\u2029]", text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^0o[0-7]+$"), ["0"])
