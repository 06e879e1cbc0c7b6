"""What stands in the cluster before the stack makes it: left by an interrupted `up`, or somebody else's.

The engine records an object after it was made, so an `up` that is killed leaves objects that the state does
not know. They are the stack's, and the next `up` takes them over: the provider applies instead of creating.
An object that the stack did not make must not be taken over like that. `before_create` tells the two apart.
It is a hook of the engine, which runs right before the creation of an object that the state does not know
(`Apply` of `CreateStep` in pkg/resource/deploy/step.go of Pulumi), at a preview too; nothing is asked about
objects that are known already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pulumi

from infra import cluster_rights, helm_leftovers, image_gate, namespaces, ray_schema
from infra.cluster_api import ClusterApi, ClusterError, api_root, in_thread

Reach = Callable[[], Awaitable[ClusterApi]]

# The provider's field managers: one a resource, of this prefix (`fieldManagerName` in
# provider/pkg/provider/provider.go of pulumi-kubernetes).
_FIELD_MANAGER = "pulumi-kubernetes"
# Set by the provider on an object whose name it chose (provider/pkg/metadata/naming.go): nothing has it yet.
_AUTONAMED = "pulumi.com/autonamed"
_RAY_SERVICE = "RayService"
_RELEASE = "kubernetes:helm.sh/v3:Release"
# Longer than the pods of a service need to end in peace.
_DELETION_TIMEOUT_S = 900
_POLL_S = 2


def before_create(reach: Reach) -> Callable[[pulumi.ResourceHookArgs], Awaitable[None]]:
    """The hook for every object of a cluster. Raises `ClusterError`, which fails the creation."""

    async def check(args: pulumi.ResourceHookArgs) -> None:
        api = await reach()
        inputs = args.new_inputs or {}
        if args.type == _RELEASE:
            if not pulumi.runtime.is_dry_run():
                await in_thread(helm_leftovers.remove, api, inputs["namespace"], inputs["name"])
            return
        metadata = inputs["metadata"]
        if inputs["kind"] == "Job" and not pulumi.runtime.is_dry_run():
            await image_gate.wait_for_image(api, metadata["namespace"], inputs["spec"])
        if "name" not in metadata or metadata.get("annotations", {}).get(_AUTONAMED) == "true":
            return
        await _make_way(api, inputs)
        await _check_schema(api, inputs)

    return check


def before_update(reach: Reach) -> Callable[[pulumi.ResourceHookArgs], Awaitable[None]]:
    """The hook for every change of an object. Raises `ClusterError`, which fails the change."""

    async def check(args: pulumi.ResourceHookArgs) -> None:
        inputs = args.new_inputs or {}
        if inputs.get("kind") == _RAY_SERVICE:
            await _check_schema(await reach(), inputs)

    return check


async def _check_schema(api: ClusterApi, inputs: Mapping[str, Any]) -> None:
    if inputs["kind"] == _RAY_SERVICE:
        name, api_version = inputs["metadata"]["name"], inputs["apiVersion"]
        await in_thread(ray_schema.check, api, name, api_version, inputs["spec"])


async def _make_way(api: ClusterApi, inputs: Mapping[str, Any]) -> None:
    kind, metadata = inputs["kind"], inputs["metadata"]
    resource = await in_thread(api.resource_of, inputs["apiVersion"], kind)
    if resource is None:
        return  # of a kind whose definition is yet to be made, so there can be no object
    namespace = metadata.get("namespace", "default") if resource["namespaced"] else None
    collection = collection_path(inputs["apiVersion"], resource["name"], namespace)
    await in_thread(cluster_rights.check, api, inputs["apiVersion"], resource["name"], namespace)
    path = f"{collection}/{metadata['name']}"
    found = await in_thread(api.get, path)
    if found and not is_ours(found):
        raise ClusterError(foreign(found))
    if found and "deletionTimestamp" in found["metadata"]:
        await _until_gone(api, path, found)


async def _until_gone(api: ClusterApi, path: str, found: dict[str, Any]) -> None:
    """Wait for the end of an object that is being deleted: applying to it would make nothing that stays."""
    if pulumi.runtime.is_dry_run():
        pulumi.log.info(f"{title(found)} is being deleted; `pulumi up` waits until it is gone")
        return
    deadline = time.monotonic() + _DELETION_TIMEOUT_S
    left: dict[str, Any] | None = found
    while left:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{title(found)} has been waited for {_DELETION_TIMEOUT_S} s while it is being deleted: "
                f"{held_by(left)}; end what holds it, then run `pulumi up` again"
            )
        pulumi.log.info(f"waiting until {title(found)} is deleted: {held_by(left)}", ephemeral=True)
        await asyncio.sleep(_POLL_S)
        left = await in_thread(api.get, path)


def collection_path(api_version: str, plural: str, namespace: str | None) -> str:
    """Where the API server keeps the objects of a kind."""
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{api_root(api_version)}{within}/{plural}"


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether this stack made an object.

    A namespace says so itself. What is in one of ours, or in no namespace, is ours if a Pulumi program made
    it.
    """
    metadata = found["metadata"]
    if found["kind"] == "Namespace":
        return namespaces.owner_labels().items() <= metadata.get("labels", {}).items()
    managers = (entry.get("manager", "") for entry in metadata.get("managedFields", []))
    return any(manager.startswith(_FIELD_MANAGER) for manager in managers)


def foreign(found: Mapping[str, Any]) -> str:
    """Whose an object is that this stack did not make, and what can be done."""
    name = found["metadata"]["name"]
    if found["kind"] != "Namespace":
        managers = {entry.get("manager", "?") for entry in found["metadata"].get("managedFields", [])}
        return (
            f"{title(found)} exists and was not made by this stack but by {', '.join(sorted(managers))}; "
            "delete it, or give it another name"
        )
    labels = found["metadata"].get("labels", {})
    stack = labels.get(namespaces.STACK)
    whose = f"belongs to the stack {stack}" if stack else "was not made by this stack"
    ours = " ".join(f"{key}={value}" for key, value in namespaces.owner_labels().items())
    return (
        f"{title(found)} exists and {whose}; "
        f"{namespaces.way_out(name)}, choose another cluster, delete the namespace with all that is in it, "
        f"or hand it to this stack: `kubectl label --overwrite namespace {name} {ours}`"
    )


def title(found: Mapping[str, Any]) -> str:
    """Kind and name of an object, as messages say them."""
    namespace = found["metadata"].get("namespace")
    return f"{found['kind']} {found['metadata']['name']!r}" + (f" in {namespace!r}" if namespace else "")


def held_by(found: Mapping[str, Any]) -> str:
    """What an object that is being deleted waits for."""
    conditions = found.get("status", {}).get("conditions", [])
    # Of a namespace: NamespaceContentRemaining and others, with the kinds and numbers of what is left.
    said = [entry["message"] for entry in conditions if entry["status"] == "True" and entry.get("message")]
    finalizers = found["metadata"].get("finalizers", [])
    return "; ".join(said) or (f"finalizers {', '.join(finalizers)}" if finalizers else "its end")
