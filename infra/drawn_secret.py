"""Random values that are drawn once, when the stack is made, and stay.

Every evaluation of the program draws another value. `ignore_changes` drops all but the first, and whoever
needs the value takes the resource's own output, which is the first one too. `pulumi up --replace URN` draws
anew.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as k8s


def kept_once_drawn(given: pulumi.Output[str] | None, property_name: str) -> list[str] | None:
    """`ignore_changes` of the resource that keeps the value: the property, unless the value was given."""
    return [property_name] if given is None else None


def drawn_secret(
    resource_name: str,
    *,
    metadata: k8s.meta.v1.ObjectMetaArgsDict,
    key: str,
    drawn: str,
    parent: pulumi.Resource,
    given: pulumi.Output[str] | None = None,
    immutable: bool | None = None,
    plain: Mapping[str, str] | None = None,
) -> k8s.core.v1.Secret:
    """A Kubernetes Secret that keeps, under `key`, the value that was given, or else the first one drawn.

    `plain` are further entries, which are no secret and stay as they were first.
    """
    value = given or pulumi.Output.secret(drawn)
    return k8s.core.v1.Secret(
        resource_name,
        metadata=metadata,
        immutable=immutable,
        # `data`, not `string_data`, because that is what the provider keeps in its state.
        data={key: value.apply(_encoded)} | {name: _encoded(text) for name, text in (plain or {}).items()},
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=kept_once_drawn(given, "data")),
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def value_of(secret: k8s.core.v1.Secret, key: str) -> pulumi.Output[str]:
    """The value that a drawn secret keeps."""

    def decoded(data: Mapping[str, str]) -> str:
        return base64.b64decode(data[key]).decode()

    return pulumi.Output.secret(secret.data.apply(decoded))
