"""What `pulumi up` prints at the end and a preview knows: models, commands, NeuronCores, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.config import StackConfig
from infra.service_base import ModelService
from workloads import chat_ui
from workloads.capacity import neuron_cores
from workloads.cost import cost_per_hour
from workloads.serve_config import SERVE_PORT
from workloads.service_plan import ServicePlan, demands


def planned_outputs(stack: StackConfig, plans: Mapping[str, ServicePlan]) -> dict[str, Any]:
    """Stack outputs that follow from the stack file. `costPerHour` is there on AWS only."""
    cores = neuron_cores(demands(plans))
    outputs: dict[str, Any] = {
        "models": model_names(stack),
        "portForward": port_forwards(stack),
        "neuronCores": {"min": cores.min, "max": cores.max, "upgradePeak": cores.upgrade_peak},
    }
    cost = cost_per_hour(stack, demands(plans))
    return outputs if cost is None else outputs | {"costPerHour": cost}


def model_names(stack: StackConfig) -> dict[str, str]:
    """Models by service: the name that clients send as `model`."""
    return {
        name: service.served_name or name
        for name, service in stack.services.items()
        if isinstance(service, ModelService)
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
