"""A Kubernetes Secret with a random value that is drawn once, when the stack is made, and stays."""

from __future__ import annotations

import base64

import pulumi
import pulumi_kubernetes as k8s


def drawn_secret(
    resource_name: str,
    *,
    name: str,
    namespace: pulumi.Input[str],
    key: str,
    value: str,
    parent: pulumi.Resource,
) -> k8s.core.v1.Secret:
    """A Secret that keeps the first value it was given under `key`.

    Every evaluation of the program draws another value; `ignore_changes` drops all but the first. Whoever
    needs the value takes the Secret's output (`value_of`), which is the first one too.
    `pulumi up --replace URN` draws anew.
    """
    return k8s.core.v1.Secret(
        resource_name,
        metadata={"name": name, "namespace": namespace},
        # `data`, not `string_data`, because that is what the provider keeps in its state.
        data={key: pulumi.Output.secret(base64.b64encode(value.encode()).decode())},
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=["data"]),
    )


def value_of(secret: k8s.core.v1.Secret, key: str) -> pulumi.Output[str]:
    """The value that a drawn secret keeps."""
    return pulumi.Output.secret(secret.data.apply(lambda data: base64.b64decode(data[key]).decode()))
