"""Namespaces of the platform, which no service can be called after, whose they are, and what they let in."""

from __future__ import annotations

import hashlib
import re

import pulumi

OPERATOR = "kuberay-operator"
CHAT_UI = "chat-ui"
STORE = "gcs-store"
MONITORING = "monitoring"
# For what belongs to no single service.
SHARED = "neuron-serve"

RESERVED = (
    *("default", "kube-system", "kube-public", "kube-node-lease"),
    *(OPERATOR, CHAT_UI, STORE, MONITORING, SHARED),
)

# The API server refuses a pod that asks for more than `infra.pod_security` gives ours. Neuron devices need no
# privilege: the device plugin hands them to the container.
# (https://kubernetes.io/docs/concepts/security/pod-security-admission/, looked up 2026-11)
_ENFORCE = "pod-security.kubernetes.io/enforce"
RESTRICTED = {_ENFORCE: "restricted"}
PRIVILEGED = {_ENFORCE: "privileged"}

MANAGED_BY = "app.kubernetes.io/managed-by"
STACK = "neuron-serve/stack"
_MANAGER = "neuron-serve"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_MAX_CHARS = 63
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DIGEST_CHARS = 8


def owner_labels() -> dict[str, str]:
    """What every namespace of the current stack carries, and no other stack's."""
    return {MANAGED_BY: _MANAGER, STACK: label_value(f"{pulumi.get_project()}.{pulumi.get_stack()}")}


def label_value(text: str) -> str:
    """`text`, or, where no label can have that value, what is left of it and a digest of the whole."""
    if len(text) <= _LABEL_MAX_CHARS and _LABEL_VALUE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]
    allowed = re.sub(r"[^-A-Za-z0-9_.]", "-", text).lstrip("-_.")
    return f"{allowed[: _LABEL_MAX_CHARS - _DIGEST_CHARS - 1]}-{digest}"


def way_out(namespace: str) -> str:
    """How a stack does without a namespace that is somebody else's."""
    return {
        OPERATOR: "use the operator that runs there with kuberay.install: false",
        CHAT_UI: "do without the page with chatUi.enabled: false",
        STORE: "choose another gcsStore.kind",
        MONITORING: "do without it with monitoring.enabled: false",
        SHARED: "give the stack keys of its own with the secret apiKeys",
    }.get(namespace, "give the service another name")
