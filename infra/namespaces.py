"""Namespaces of the platform, which no service can be called after, and what a namespace lets in."""

from __future__ import annotations

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
