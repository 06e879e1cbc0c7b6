"""What makes Neuron devices known to Kubernetes, and their use to Prometheus."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import versions
from infra.cluster import EksCluster
from infra.instances import NEURON_INSTANCES
from infra.node_pools import NEURON_TAINT

_NAMESPACE = "kube-system"
_INSTALL_TIMEOUT_S = 600
_MONITOR_PORT = 8000
_MONITOR_LABELS = {"app.kubernetes.io/name": "neuron-monitor"}


class NeuronDevicePlugin(pulumi.ComponentResource):
    """Daemons of the Neuron nodes:

    - Helm release of Neuron's chart, of which only the device plugin is wanted
    - DaemonSet of the Neuron monitor, which serves the devices' metrics to Prometheus

    Workers take whole nodes, so the chart's scheduler extension, which finds neighbouring devices, is not
    needed.
    """

    device_plugin: pulumi.Resource
    """What a pod that asks for Neuron devices waits for."""

    def __init__(self, name: str, cluster: EksCluster, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:NeuronDevicePlugin", name, None, opts)
        self._name = name
        self._on_ready_cluster = pulumi.ResourceOptions(parent=self, depends_on=cluster.ready)
        self.device_plugin = self._chart()
        self._monitor()
        self.register_outputs({})

    def _chart(self) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            self._name,
            name="neuron",
            chart=versions.NEURON_CHART_URL,
            version=versions.NEURON_CHART,
            namespace=_NAMESPACE,
            atomic=True,
            timeout=_INSTALL_TIMEOUT_S,
            values=CHART_VALUES,
            opts=self._on_ready_cluster,
        )

    def _monitor(self) -> None:
        k8s.apps.v1.DaemonSet(
            f"{self._name}-monitor",
            metadata={"name": "neuron-monitor", "namespace": _NAMESPACE, "labels": _MONITOR_LABELS},
            spec={
                "selector": {"match_labels": _MONITOR_LABELS},
                "template": {"metadata": _monitor_metadata(), "spec": _monitor_pod()},
            },
            opts=self._on_ready_cluster,
        )


# Every component is named, so that a new default of the chart switches nothing on.
CHART_VALUES: dict[str, Any] = {
    "devicePlugin": {"enabled": True},
    "scheduler": {"enabled": False},
    # Its recovery agent needs rights on EC2 that nothing else in the cluster has.
    "npd": {"enabled": False},
    "draDriver": {"enabled": False},
    "ultraserverOperator": {"enabled": False},
}


def _monitor_metadata() -> k8s.meta.v1.ObjectMetaArgsDict:
    return {
        "labels": _MONITOR_LABELS,
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(_MONITOR_PORT)},
    }


def _monitor_pod() -> k8s.core.v1.PodSpecArgsDict:
    """The pod of AWS's manifest (see `versions`), on the instance types known here and despite the taint."""
    return {
        "automount_service_account_token": False,
        "affinity": {
            "node_affinity": {
                "required_during_scheduling_ignored_during_execution": {
                    "node_selector_terms": [
                        {
                            "match_expressions": [
                                {
                                    "key": "node.kubernetes.io/instance-type",
                                    "operator": "In",
                                    "values": list(NEURON_INSTANCES),
                                }
                            ]
                        }
                    ]
                }
            }
        },
        "tolerations": [{"key": NEURON_TAINT["key"], "operator": "Exists", "effect": NEURON_TAINT["effect"]}],
        "containers": [
            {
                "name": "neuron-monitor",
                "image": versions.NEURON_MONITOR_IMAGE,
                "command": ["/opt/bin/entrypoint.sh"],
                "args": [
                    "--port",
                    str(_MONITOR_PORT),
                    "--neuron-monitor-config",
                    "/opt/aws/neuron/bin/neuron-monitor.conf",
                ],
                "env": [{"name": "GOMEMLIMIT", "value": "160MiB"}],
                "ports": [{"name": "metrics", "container_port": _MONITOR_PORT}],
                "resources": {
                    "requests": {"cpu": "256m", "memory": "128Mi"},
                    "limits": {"cpu": "500m", "memory": "256Mi"},
                },
                # It reads the devices of all pods on the node.
                "security_context": {"privileged": True},
            }
        ],
    }
