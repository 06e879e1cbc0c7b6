"""The API keys of the stack: those of its configuration, or one that is drawn when the stack is made.

Services get hashes only. The chat page and the release check have to ask as clients do: they get the first
key that the configuration has in plain text, or, where it has hashes alone, one that is drawn for them.
"""

from __future__ import annotations

import hashlib
import secrets as random
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces
from infra.config import StackConfig
from infra.drawn_secret import drawn_secret, value_of
from infra.secrets_config import HASHED_KEY_PREFIX, Secrets
from infra.service_base import ModelService

_KEY = "keys"


@dataclass(frozen=True)
class StackApiKeys:
    """All secret: `text` has the keys as they were given or drawn, one a line; `hashed` has their hashes.

    `client` is the one key that the stack itself uses.
    """

    text: pulumi.Output[str]
    client: pulumi.Output[str]

    @property
    def hashed(self) -> pulumi.Output[str]:
        """One `sha256:` line a key, as the app reads them."""
        return self.text.apply(hashed_keys)


def stack_api_keys(stack: StackConfig, secrets: Secrets, opts: pulumi.ResourceOptions) -> StackApiKeys | None:
    """None where no service asks for keys."""
    if not any(isinstance(s, ModelService) and s.auth == "api-keys" for s in stack.services.values()):
        return None
    if secrets.client_key is not None and secrets.api_keys is not None:
        return StackApiKeys(secrets.api_keys, secrets.client_key)
    drawn = DrawnApiKey(opts).text
    text = drawn if secrets.api_keys is None else pulumi.Output.concat(secrets.api_keys, drawn)
    return StackApiKeys(text, drawn.apply(str.strip))


def hashed_keys(text: str) -> str:
    """Keys, one a line, as hashes; what is a hash stays one."""
    return "".join(
        f"{line if line.startswith(HASHED_KEY_PREFIX) else HASHED_KEY_PREFIX + _sha256(line)}\n"
        for line in text.splitlines()
    )


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class DrawnApiKey(pulumi.ComponentResource):
    """Namespace, and a Secret with one random key."""

    text: pulumi.Output[str]
    """The key and a line break, secret."""

    def __init__(self, opts: pulumi.ResourceOptions) -> None:
        super().__init__("neuron-serve:workloads:DrawnApiKey", "api-keys", None, opts)
        namespace = k8s.core.v1.Namespace(
            "api-keys-namespace",
            metadata={"name": namespaces.SHARED, "labels": namespaces.RESTRICTED},
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
