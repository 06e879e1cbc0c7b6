"""Prometheus, Grafana and Alertmanager, and what this stack has for them to look at."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces, versions
from infra.alerts import rules
from infra.dashboards import NODES, SERVICES
from infra.drawn_secret import drawn_secret
from infra.monitoring_config import Monitoring
from infra.scheduling import NOT_ON_KARPENTER_NODES, TOLERATES_SYSTEM_NODES

_INSTALL_TIMEOUT_S = 900
_API = "monitoring.coreos.com/v1"
_PASSWORD_SECRET = "grafana-admin"  # noqa: S105 - the name of a secret
# One node of the default size holds Prometheus beside the other controllers.
_PROMETHEUS_MEMORY = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}


@dataclass(frozen=True)
class MonitoringArgs:
    """`services` are the namespaces of services; `needs` is what their pods need until they are gone."""

    config: Monitoring
    services: Sequence[str]
    on_aws: bool
    needs: Sequence[pulumi.Resource] = ()


class MonitoringStack(pulumi.ComponentResource):
    """Nothing of it is exposed. Its resources:

    - Namespace; the node exporter reads the node itself, so it cannot be a restricted one
    - Secret with Grafana's password, drawn once
    - Helm release of the chart `kube-prometheus-stack`
    - a PodMonitor for each kind of pod that has metrics
    - ConfigMap with the dashboards, PrometheusRule with the alerts
    """

    def __init__(self, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Monitoring", "monitoring", None, opts)
        self._own = pulumi.ResourceOptions(parent=self)
        namespace = k8s.core.v1.Namespace(
            "monitoring-namespace",
            metadata={"name": namespaces.MONITORING, "labels": namespaces.PRIVILEGED},
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.needs)),
        ).metadata.name
        drawn_secret(
            "grafana-admin",
            metadata={"name": _PASSWORD_SECRET, "namespace": namespace},
            key="admin-password",
            drawn=random.token_urlsafe(24),
            plain={"admin-user": "admin"},
            parent=self,
        )
        release = self._release(args, namespace)
        for name, spec in pod_monitors(args.services, on_aws=args.on_aws).items():
            self._custom("PodMonitor", name, namespace, spec, release)
        self._custom("PrometheusRule", "neuron-serve", namespace, rules(on_aws=args.on_aws), release)
        self._dashboards(namespace, on_aws=args.on_aws)
        self.register_outputs({})

    def _release(self, args: MonitoringArgs, namespace: pulumi.Output[str]) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            "monitoring",
            name="monitoring",
            chart="kube-prometheus-stack",
            version=versions.KUBE_PROMETHEUS_STACK,
            repository_opts={"repo": versions.PROMETHEUS_CHARTS},
            namespace=namespace,
            atomic=True,
            timeout=_INSTALL_TIMEOUT_S,
            values=merged(chart_values(on_aws=args.on_aws), args.config.chart_values),
            opts=self._own,
        )

    def _custom(
        self,
        kind: str,
        name: str,
        namespace: pulumi.Output[str],
        spec: Mapping[str, Any],
        release: pulumi.Resource,
    ) -> None:
        k8s.apiextensions.CustomResource(
            f"monitoring-{kind.lower()}-{name}",
            api_version=_API,
            kind=kind,
            metadata={"name": name, "namespace": namespace},
            spec=dict(spec),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[release]),
        )

    def _dashboards(self, namespace: pulumi.Output[str], *, on_aws: bool) -> None:
        shown = (SERVICES, NODES) if on_aws else (SERVICES,)
        k8s.core.v1.ConfigMap(
            "monitoring-dashboards",
            metadata={
                "name": "neuron-serve-dashboards",
                "namespace": namespace,
                "labels": {"grafana_dashboard": "1"},
            },
            data={f"{board.uid}.json": board.json() for board in shown},
            opts=self._own,
        )


def pod_monitors(services: Sequence[str], *, on_aws: bool) -> dict[str, dict[str, Any]]:
    """Specs of PodMonitors by name. Labels and port names are those of the charts and of KubeRay."""
    ray = {"ray.io/is-ray-node": "yes"}
    monitors = {
        "ray": _monitor(sorted(services), ray, "metrics"),
        "kuberay": _monitor([namespaces.OPERATOR], _named("kuberay-operator"), "http"),
    }
    if on_aws:
        monitors["karpenter"] = _monitor(["kube-system"], _named("karpenter"), "http-metrics")
        monitors["neuron"] = _monitor(["kube-system"], _named("neuron-monitor"), "metrics")
    return monitors


def _named(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _monitor(in_namespaces: Sequence[str], labels: Mapping[str, str], port: str) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchNames": list(in_namespaces)},
        "selector": {"matchLabels": dict(labels)},
        # KubeRay's metrics tell the namespace of what they are about, which is not its own.
        "podMetricsEndpoints": [{"port": port, "interval": "30s", "honorLabels": True}],
    }


def chart_values(*, on_aws: bool) -> dict[str, Any]:
    """Values of the chart `kube-prometheus-stack`."""
    place: dict[str, Any] = {}
    if on_aws:
        # A volume of its own would outlive the cluster that has to delete it, so history goes with the pod,
        # and the pod stays where nodes stay.
        place = {"affinity": {"nodeAffinity": NOT_ON_KARPENTER_NODES}, "tolerations": TOLERATES_SYSTEM_NODES}
    # Only what carries the release's label would be looked at.
    everything = {
        f"{kind}SelectorNilUsesHelmValues": False for kind in ("podMonitor", "rule", "serviceMonitor")
    }
    values: dict[str, Any] = {
        "prometheus": {
            "prometheusSpec": {"retention": "15d", "resources": _PROMETHEUS_MEMORY, **everything, **place}
        },
        "alertmanager": {"alertmanagerSpec": place},
        "prometheusOperator": place,
        "kube-state-metrics": place,
        "grafana": {"admin": {"existingSecret": _PASSWORD_SECRET}, **place},
    }
    if on_aws:
        # EKS runs these where nobody can look at them, and kube-proxy answers its own node only.
        hidden = ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy")
        values |= {component: {"enabled": False} for component in hidden}
    return values


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `more`, object by object, as Helm does it."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
