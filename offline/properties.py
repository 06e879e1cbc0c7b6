"""Property values of the engine's protocol as the plain, marked values of a graph (see `offline.graph`)."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.struct_pb2 import Struct, Value
from pulumi.runtime import rpc

from offline import graph

# An object with this key is not an object; the key's value says what it is. Both are part of the wire format
# (sdk/go/common/resource/sig in pulumi/pulumi), the same in every SDK.
SIGNATURE = "4dabf18193072939515e22adb298388d"
_MARKERS = {
    "1b47061264138c4ac30d75fd1eb44270": "$secret",
    "5cf8f73096256a8f31e491e813e4eb8e": "$resource",
    "c44067f5952c0a294b673a41bacd8c17": "$asset",
    "0def7320c3a5731c473e5ecbe6d01bc7": "$archive",
}


def plain_object(struct: Struct) -> dict[str, Any]:
    """The properties of a resource, sorted by key, because a protobuf map has an order by chance.

    No secret's text is in the result.
    """
    return {key: plain_value(value) for key, value in sorted(struct.fields.items())}


def plain_value(value: Value) -> Any:
    """One property value; whole numbers become int, which the protocol cannot tell from float."""
    match value.WhichOneof("kind"):
        case "string_value":
            return dict(graph.UNKNOWN) if value.string_value == rpc.UNKNOWN else value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [plain_value(entry) for entry in value.list_value.values]
        case "struct_value":
            return _special(value.struct_value)
        case _:
            return None


def _special(struct: Struct) -> Any:
    content = plain_object(struct)
    if SIGNATURE not in content:
        return content
    marker = _MARKERS[content.pop(SIGNATURE)]
    match marker:
        case "$secret":
            return {marker: _shape(content["value"])}
        case "$resource":
            return {marker: content["urn"]}
        case _:
            return {marker: content}


def _shape(value: Any) -> Any:
    if graph.is_unknown(value):
        return value
    if isinstance(value, dict):
        return {key: _shape(entry) for key, entry in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_shape(entry) for entry in cast("list[Any]", value)]
    return None
