"""The chat page on the cluster: a plain Deployment that speaks the OpenAI API of the stack's services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces
from infra.network_policy import register_policies
from infra.pod_security import restricted_container
from workloads.network_policies import chat_page_policies

PORT = 7860
_LABELS = {"app.kubernetes.io/name": "chat-ui"}


@dataclass(frozen=True)
class ChatUiArgs:
    """`endpoints` maps a service's name to the base URL of its API; `api_key` is sent to all.

    `needs` is what must be there before the page starts.
    """

    image: str
    endpoints: Mapping[str, pulumi.Output[str]]
    api_key: pulumi.Output[str] | None
    needs: Sequence[pulumi.Resource] = ()


class ChatUi(pulumi.ComponentResource):
    """Namespace, NetworkPolicy, Secret with one API key where the stack has keys, Deployment, Service."""

    def __init__(self, args: ChatUiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:ChatUi", "chat-ui", None, opts)
        own = pulumi.ResourceOptions(parent=self)
        namespace = k8s.core.v1.Namespace(
            "chat-ui-namespace",
            metadata={"name": namespaces.CHAT_UI, "labels": namespaces.RESTRICTED},
            opts=own,
        )
        policies = chat_page_policies(list(args.endpoints))
        register_policies("chat-ui", namespace.metadata.name, policies, self)
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": "chat-ui",
            "namespace": namespace.metadata.name,
            "labels": _LABELS,
        }
        key = None
        if args.api_key is not None:
            key = k8s.core.v1.Secret(
                "chat-ui-api-key", metadata=metadata, string_data={"key": args.api_key}, opts=own
            )
        k8s.apps.v1.Deployment(
            "chat-ui",
            metadata=metadata,
            spec={
                "replicas": 1,
                "selector": {"match_labels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod(args, key)},
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.needs)),
        )
        k8s.core.v1.Service(
            "chat-ui-service",
            metadata=metadata,
            spec={"selector": _LABELS, "ports": [{"name": "http", "port": PORT, "target_port": "http"}]},
            opts=own,
        )
        self.register_outputs({})


def _pod(args: ChatUiArgs, key: k8s.core.v1.Secret | None) -> k8s.core.v1.PodSpecArgsDict:
    base_urls = pulumi.Output.all(**args.endpoints).apply(
        lambda urls: ",".join(f"{name}={url}" for name, url in sorted(urls.items()))
    )
    environment: list[k8s.core.v1.EnvVarArgsDict] = [
        {"name": "CHAT_UI_BASE_URLS", "value": base_urls},
        {"name": "CHAT_UI_HOST", "value": "0.0.0.0"},
        {"name": "CHAT_UI_PORT", "value": str(PORT)},
    ]
    if key is not None:
        source: k8s.core.v1.EnvVarSourceArgsDict = {
            "secret_key_ref": {"name": key.metadata.name, "key": "key"}
        }
        environment.append({"name": "OPENAI_API_KEY", "value_from": source})
    return {
        "automount_service_account_token": False,
        "containers": [
            {
                "name": "chat-ui",
                "image": args.image,
                "image_pull_policy": "IfNotPresent",
                "env": environment,
                "ports": [{"name": "http", "container_port": PORT}],
                "readiness_probe": {"http_get": {"path": "/health", "port": "http"}, "period_seconds": 5},
                "resources": {
                    "requests": {"cpu": "100m", "memory": "256Mi"},
                    "limits": {"memory": "512Mi"},
                },
                "security_context": restricted_container(read_only_root=False),
            }
        ],
    }
