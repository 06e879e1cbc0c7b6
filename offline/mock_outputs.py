"""What a resource answers when no provider creates it.

The SDK drops an input whose value is None, and with it the dependency it stood for. So no output is None: it
has a value that looks like the provider's (a Kubernetes object's name, an ARN), where what the program builds
from it is worth reading in the graph, and otherwise it is unknown. Values are derived from the URN: the same
program yields the same graph.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pulumi
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto.resource_pb2 import RegisterResourceRequest
from pulumi.runtime.rpc import UNKNOWN

from offline.kubernetes_names import auto_name
from offline.properties import SIGNATURE

_ACCOUNT = "123456789012"
_REGION = "us-west-2"

# Results of provider functions by token. None is the result that only a deployment knows.
FUNCTION_RESULTS: dict[str, dict[str, Any] | None] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "id": _ACCOUNT,
        "accountId": _ACCOUNT,
        "arn": f"arn:aws:iam::{_ACCOUNT}:user/offline",
        "userId": "offline",
    },
    "aws:index/getPartition:getPartition": {
        "id": "aws",
        "partition": "aws",
        "dnsSuffix": "amazonaws.com",
        "reverseDnsPrefix": "com.amazonaws",
    },
    "aws:index/getRegion:getRegion": {"id": _REGION, "name": _REGION, "region": _REGION},
    # Versions, of which AWS publishes new ones from day to day.
    "aws:eks/getAddonVersion:getAddonVersion": None,
    "aws:ssm/getParameter:getParameter": None,
}


def custom_outputs(request: RegisterResourceRequest, urn: str) -> tuple[str, Struct]:
    """Id of a custom resource, empty if unknown, and its outputs: the inputs and what follows from them."""
    outputs = Struct()
    outputs.CopyFrom(request.object)
    if request.type.startswith("kubernetes:helm.sh/"):
        id_ = _release(request, urn, outputs)
    elif request.type.startswith("kubernetes:"):
        id_ = _kubernetes_object(request, urn, outputs)
    else:
        id_ = _cloud_resource(request, urn, outputs)
    return "" if UNKNOWN in id_ else id_, outputs


def remote_outputs(request: RegisterResourceRequest) -> Struct:
    """Outputs of a component that a plugin would build: the inputs, and what its class declares as unknown.

    For custom resources the protocol can say "unknown" for whatever is missing; for components it cannot.
    """
    outputs = Struct()
    outputs.update(dict.fromkeys(_declared_outputs(request.type), UNKNOWN))
    outputs.MergeFrom(request.object)
    return outputs


def _cloud_resource(request: RegisterResourceRequest, urn: str, outputs: Struct) -> str:
    if "name" not in outputs:
        outputs["name"] = auto_name(request.name, urn)
    package, _, kind = request.type.partition(":")
    service = kind.partition("/")[0]
    type_ = kind.rpartition(":")[2].lower()
    name = _text(outputs, "name")
    arn = f"arn:{package}:{service}:{_REGION}:{_ACCOUNT}:{type_}/{name}"
    outputs["arn"] = UNKNOWN if UNKNOWN in arn else arn
    return auto_name(request.name, urn)


def _kubernetes_object(request: RegisterResourceRequest, urn: str, outputs: Struct) -> str:
    if "metadata" in outputs and not _is_plain_object(outputs, "metadata"):
        # Secret or unknown as a whole: there is nothing to add a name to.
        return ""
    metadata = outputs.get_or_create_struct("metadata")
    metadata["uid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, urn))
    if "name" not in metadata:
        metadata["name"] = auto_name(request.name, urn)
    return "/".join(filter(None, (_text(metadata, "namespace"), _text(metadata, "name"))))


def _release(request: RegisterResourceRequest, urn: str, outputs: Struct) -> str:
    if "name" not in outputs:
        outputs["name"] = auto_name(request.name, urn)
    name = _text(outputs, "name")
    namespace = _text(outputs, "namespace") or "default"
    outputs["status"] = {"name": name, "namespace": namespace, "revision": 1, "status": "deployed"}
    return f"{namespace}/{name}"


def _text(struct: Struct, key: str) -> str:
    return struct.fields[key].string_value if key in struct else ""


def _is_plain_object(struct: Struct, key: str) -> bool:
    value = struct.fields[key]
    return value.HasField("struct_value") and SIGNATURE not in value.struct_value


def _declared_outputs(type_token: str) -> Iterator[str]:
    for resource in _subclasses(pulumi.Resource):
        if getattr(resource, "pulumi_type", None) == type_token:
            for attribute in vars(resource).values():
                # pulumi.getter, which marks the outputs of generated classes, leaves their names here.
                name = getattr(getattr(attribute, "fget", None), "_pulumi_name", None)
                if name is not None:
                    yield name


def _subclasses(base: type) -> Iterator[type]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
