"""Rules about what runs: pinned versions, pods without privileges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from policy.model import UNKNOWN, Resource, Rule, as_dict, as_list

_EXACT_VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+.][0-9A-Za-z.+-]+)?")
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


def pinned_versions(resource: Resource) -> Iterator[str]:
    """Charts, add-ons, images of pods, machine images. A version that a deployment looks up is not pinned."""
    if resource.type.startswith("kubernetes:helm.sh/"):
        yield from _version(resource.at("version"), "the chart")
    elif resource.type in ("aws:eks/addon:Addon", "eks:index:Addon"):
        yield from _version(resource.at("addonVersion"), "the add-on")
    elif resource.type.startswith("kubernetes:karpenter.k8s.aws/"):
        for term in map(as_dict, as_list(resource.at("spec.amiSelectorTerms"))):
            alias = term.get("alias")
            if alias is UNKNOWN or (isinstance(alias, str) and alias.endswith("@latest")):
                yield "the machine image is not pinned: nodes change without a deployment"
    for _, pod in _pods(resource):
        for container in _containers(pod):
            yield from _image(container)


def _version(version: Any, what: str) -> Iterator[str]:
    if version is UNKNOWN:
        yield f"the version of {what} is looked up, so it changes from day to day"
    elif not isinstance(version, str) or not _EXACT_VERSION.fullmatch(version):
        yield f"the version of {what} is {version!r}, not one release"


def _image(container: dict[str, Any]) -> Iterator[str]:
    image = container.get("image")
    if not isinstance(image, str) or "@sha256:" in image:
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f"the image {image} has no tag that says what it is"


def unprivileged_pods(resource: Resource) -> Iterator[str]:
    """Pods of built-in kinds and of Ray."""
    for where, pod in _pods(resource):
        for name in _HOST_NAMESPACES:
            if pod.get(name) is True:
                yield f"{where} shares the node's namespaces: {name}"
        for volume in map(as_dict, as_list(pod.get("volumes"))):
            if "hostPath" in volume:
                yield f"{where} mounts the node's {as_dict(volume['hostPath']).get('path')}"
        for container in _containers(pod):
            if as_dict(container.get("securityContext")).get("privileged") is True:
                yield f"the container {container.get('name')} is privileged"


def _pods(resource: Resource) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod specification in a Kubernetes object, wherever it stands (`template.spec`), and its path."""
    if not resource.type.startswith("kubernetes:"):
        return
    if resource.type == "kubernetes:core/v1:Pod":
        yield "the pod", as_dict(resource.at("spec"))
    yield from _templates(resource.props, "")


def _templates(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        for key, entry in cast("dict[str, Any]", value).items():
            inner = f"{path}.{key}" if path else key
            if key in ("template", "podTemplate") and "containers" in as_dict(as_dict(entry).get("spec")):
                yield inner, as_dict(entry["spec"])
            yield from _templates(entry, inner)
    elif isinstance(value, list):
        for index, entry in enumerate(cast("list[Any]", value)):
            yield from _templates(entry, f"{path}[{index}]")


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        yield from map(as_dict, as_list(pod.get(kind)))


RULES = [
    Rule(
        name="pinned-versions",
        description="Charts, add-ons, container images and machine images have exact versions.",
        why="A version that moves by itself changes a cluster over night, and no preview shows it.",
        way_out="write the version into the stack file; `pulumi preview` prints what it looked up",
        check=pinned_versions,
    ),
    Rule(
        name="unprivileged-pods",
        description="Pods have no privileges on their node, but for a named few.",
        why="A privileged pod is root on the node, and with it in every pod there.",
        way_out="drop the privilege, or exempt the resource with the reason in policy-config.json",
        check=unprivileged_pods,
    ),
]
