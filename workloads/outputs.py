"""What `pulumi up` prints at the end: model names, and the commands that reach what is not public."""

from __future__ import annotations

from infra.config import StackConfig
from infra.service_config import LlmService
from workloads import chat_ui
from workloads.serve_config import SERVE_PORT


def model_names(stack: StackConfig) -> dict[str, str]:
    """Chat models by service: the name that clients send as `model`."""
    return {
        name: service.served_name or name
        for name, service in stack.services.items()
        if isinstance(service, LlmService)
    }


def port_forwards(stack: StackConfig) -> dict[str, str]:
    """A `kubectl port-forward` for every service's API and Ray dashboard, and for the chat page."""
    context = f" --context {stack.kubeconfig_context}" if stack.kubeconfig_context else ""
    forward = f"kubectl{context} port-forward --namespace"
    commands: dict[str, str] = {}
    for name in stack.services:
        commands[name] = f"{forward} {name} service/{name}-serve-svc {SERVE_PORT}:{SERVE_PORT}"
        commands[f"{name} dashboard"] = f"{forward} {name} service/{name}-head-svc 8265:8265"
    if stack.chat_ui.enabled:
        commands["chat-ui"] = f"{forward} chat-ui service/chat-ui {chat_ui.PORT}:{chat_ui.PORT}"
    return commands
