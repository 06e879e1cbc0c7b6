"""The API keys of the stack: those of its configuration, or one that is drawn when the stack is made."""

from __future__ import annotations

import secrets as random

import pulumi
import pulumi_kubernetes as k8s

from infra.config import Secrets, StackConfig
from infra.drawn_secret import drawn_secret, value_of
from infra.service_base import ModelService

# For what belongs to no single service.
_NAMESPACE = "neuron-serve"
_KEY = "keys"


def stack_api_keys(
    stack: StackConfig, secrets: Secrets, opts: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    """A text of one key a line, secret; None where no service asks for keys."""
    if not any(isinstance(s, ModelService) and s.auth == "api-keys" for s in stack.services.values()):
        return None
    return secrets.api_keys or DrawnApiKey(opts).text


class DrawnApiKey(pulumi.ComponentResource):
    """Namespace, and a Secret with one random key."""

    text: pulumi.Output[str]
    """The key and a line break, secret."""

    def __init__(self, opts: pulumi.ResourceOptions) -> None:
        super().__init__("neuron-serve:workloads:DrawnApiKey", "api-keys", None, opts)
        namespace = k8s.core.v1.Namespace(
            "api-keys-namespace",
            metadata={"name": _NAMESPACE},
            opts=pulumi.ResourceOptions(parent=self),
        )
        secret = drawn_secret(
            "api-keys",
            metadata={"name": "api-keys", "namespace": namespace.metadata.name},
            key=_KEY,
            drawn=f"{random.token_hex(32)}\n",
            parent=self,
        )
        self.text = value_of(secret, _KEY)
        self.register_outputs({})
