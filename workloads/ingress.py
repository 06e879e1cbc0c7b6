"""An internal load balancer in front of a chat model: TLS outside, API keys inside.

It sends requests to the model's workers and to nothing else: the Ray head and its dashboard, whose job API
runs any code, are not behind it. Services of one's own are not either, because this stack cannot know whether
they ask who is calling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.aws_config import Ingress
from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.ingress import INGRESS_CLASS
from infra.service_base import ModelService
from workloads.ray_service import RayService
from workloads.serve_config import SERVE_PORT

# Answers for the proxy of a worker; whether the model is there is known to Ray, which then picks a replica on
# another worker.
_HEALTH_PATH = "/-/healthz"
_HEALTH_INTERVAL_S = 10
# TLS 1.2 and 1.3 with forward secrecy
# (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html).
_TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
# A model may think for all of a request's time before its first byte, and the answer of a request that took
# too long is to come from the app. Both limits of AWS are above the longest request that a service can allow:
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html (4000 s)
# and .../load-balancer-target-groups.html (3600 s).
_IDLE_MARGIN_S = 60


@dataclass(frozen=True)
class IngressPlan:
    """The Ingress of a service, before it is registered."""

    host: str
    annotations: Mapping[str, str]
    spec: k8s.networking.v1.IngressSpecArgsDict


def plan_ingresses(stack: StackConfig) -> dict[str, IngressPlan]:
    """A plan for every chat model of a stack with ingress. Raises `ConfigError` for one that is open."""
    if stack.aws is None or not stack.aws.ingress.enabled:
        return {}
    models = {name: service for name, service in stack.services.items() if isinstance(service, ModelService)}
    open_models = [name for name, service in models.items() if service.auth == "none"]
    if open_models:
        raise ConfigError(
            *(
                f"services.{name}.auth: 'none' and aws.ingress.enabled would give the model to everybody in "
                "the network; say auth: api-keys, or aws.ingress.enabled: false"
                for name in open_models
            )
        )
    return {name: plan_ingress(name, service, stack.aws.ingress) for name, service in models.items()}


def plan_ingress(name: str, service: ModelService, settings: Ingress) -> IngressPlan:
    """The Ingress of one chat model, at `NAME.HOST`."""
    host = f"{name}.{settings.host}"
    workers: k8s.networking.v1.IngressServiceBackendArgsDict = {
        "name": f"{name}-serve-svc",
        "port": {"number": SERVE_PORT},
    }
    return IngressPlan(
        host=host,
        annotations=_annotations(service.request_timeout_seconds, settings.certificate_arn or ""),
        spec={
            "ingress_class_name": INGRESS_CLASS,
            "rules": [
                {
                    "host": host,
                    "http": {
                        "paths": [{"path": "/", "path_type": "Prefix", "backend": {"service": workers}}]
                    },
                }
            ],
        },
    )


def _annotations(request_timeout_s: int, certificate_arn: str) -> dict[str, str]:
    # https://kubernetes-sigs.github.io/aws-load-balancer-controller/v3.5/guide/ingress/annotations/
    settings = {
        "scheme": "internal",
        # Straight to the pods, so that a request makes no way over a node without a worker.
        "target-type": "ip",
        "listen-ports": json.dumps([{"HTTPS": 443}]),
        "certificate-arn": certificate_arn,
        "ssl-policy": _TLS_POLICY,
        "healthcheck-path": _HEALTH_PATH,
        "healthcheck-interval-seconds": str(_HEALTH_INTERVAL_S),
        "load-balancer-attributes": ",".join(
            (
                f"idle_timeout.timeout_seconds={request_timeout_s + _IDLE_MARGIN_S}",
                "routing.http.drop_invalid_header_fields.enabled=true",
            )
        ),
        # A worker that leaves finishes the answers it has begun.
        "target-group-attributes": f"deregistration_delay.timeout_seconds={request_timeout_s}",
    }
    return {f"alb.ingress.kubernetes.io/{key}": value for key, value in settings.items()}


@dataclass(frozen=True)
class ServiceIngressArgs:
    """`controller` is the release that makes the load balancer, and must be there to remove it."""

    plan: IngressPlan
    service: RayService
    controller: pulumi.Resource


class ServiceIngress(pulumi.ComponentResource):
    """The Ingress object of a chat model, made when the model answers."""

    url: str
    """Base URL of the API, for those who point the host name to `load_balancer`."""
    load_balancer: pulumi.Output[str]
    """DNS name of the load balancer."""

    def __init__(
        self, name: str, args: ServiceIngressArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("neuron-serve:workloads:ServiceIngress", name, None, opts)
        ingress = k8s.networking.v1.Ingress(
            f"{name}-ingress",
            metadata={"name": name, "namespace": name, "annotations": args.plan.annotations},
            spec=args.plan.spec,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.controller, args.service]),
        )
        self.url = f"https://{args.plan.host}/v1"
        self.load_balancer = ingress.status.apply(_host_name)
        self.register_outputs({"url": self.url, "load_balancer": self.load_balancer})


def _host_name(status: k8s.networking.v1.outputs.IngressStatus | None) -> str:
    balancers = status.load_balancer.ingress if status and status.load_balancer else None
    return balancers[0].hostname or "" if balancers else ""
