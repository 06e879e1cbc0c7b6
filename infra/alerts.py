"""What wakes somebody up, and what waits until morning: the rules of Prometheus.

Each links to its section in docs/runbooks.md, which a test holds to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

_RUNBOOKS = "docs/runbooks.md"


def runbook_url(section: str) -> str:
    """Where an alert's section is."""
    return f"{_RUNBOOKS}#{section}"


@dataclass(frozen=True)
class Alert:
    """`query` is PromQL that has a result while something is wrong; `lasting` is how long before it counts.

    A `critical` alert means that users notice; a `warning` that they may if nobody looks at it today.
    """

    name: str
    query: str
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    runbook: str
    on_aws_only: bool = False

    def rule(self) -> dict[str, Any]:
        """The entry of a PrometheusRule."""
        return {
            "alert": self.name,
            "expr": self.query,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook_url": runbook_url(self.runbook)},
        }


# A young pod: a head that was replaced counts, as it would not among restarts.
_HEAD_AGE_S = (
    '(time() - kube_pod_start_time) and on (namespace, pod) kube_pod_container_info{container="ray-head"}'
)

ALERTS = (
    Alert(
        "ReplicaUnhealthy",
        # 1 is DEPLOY_FAILED, 2 UNHEALTHY (ray/serve/_private/deployment_state.py of Ray 2.60).
        "max by (namespace, application, deployment) (ray_serve_deployment_status > 0) < 3",
        "2m",
        "critical",
        "{{ $labels.application }}: replicas of {{ $labels.deployment }} are unhealthy or do not start",
        "replica-unhealthy",
    ),
    Alert(
        "QueueGrowing",
        "sum by (namespace, model) (ray_neuron_serve_queued_requests) > 0 and "
        "sum by (namespace, model) (deriv(ray_neuron_serve_queued_requests[10m])) >= 0",
        "10m",
        "warning",
        "{{ $labels.model }}: {{ $value }} requests wait for a slot, and do not get fewer",
        "queue-growing",
    ),
    Alert(
        "ErrorsInAnswers",
        'sum by (namespace, model) (rate(ray_neuron_serve_requests_total{status=~"5.."}[5m])) / '
        "sum by (namespace, model) (rate(ray_neuron_serve_requests_total[5m])) > 0.05",
        "5m",
        "critical",
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of the answers are server errors",
        "errors-in-answers",
    ),
    Alert(
        "NeuronCoresPending",
        'sum by (namespace, pod) (kube_pod_container_resource_requests{resource="aws_amazon_com_neuron"}) '
        'and on (namespace, pod) (kube_pod_status_phase{phase="Pending"} == 1)',
        "20m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.pod }} has waited for Neuron devices for 20 minutes",
        "neuroncores-pending",
        on_aws_only=True,
    ),
    Alert(
        "StoreFailover",
        # A head that loses its store exits and comes back. A new release makes a head as well.
        f"({_HEAD_AGE_S}) < 600 unless on (namespace) "
        'kuberay_service_condition_upgrade_in_progress{condition="true"} == 1',
        "1m",
        "warning",
        "{{ $labels.namespace }}: Ray's head has started again; its store may have failed over",
        "store-failover",
    ),
    Alert(
        "StoreDown",
        'kube_deployment_status_replicas_unavailable{namespace="gcs-store"} > 0',
        "2m",
        "warning",
        "The store of Ray's state in the cluster is down: a head that dies now starts from nothing",
        "store-failover",
    ),
    Alert(
        "CertificateAge",
        "apiserver_client_certificate_expiration_seconds_count > 0 and on (job) histogram_quantile(0.01, "
        "sum by (job, le) (rate(apiserver_client_certificate_expiration_seconds_bucket[5m]))) < 604800",
        "5m",
        "warning",
        "A client certificate of the Kubernetes API expires within a week",
        "certificate-age",
    ),
)


def rules(*, on_aws: bool) -> dict[str, Any]:
    """Spec of the stack's PrometheusRule."""
    chosen = [alert.rule() for alert in ALERTS if on_aws or not alert.on_aws_only]
    return {"groups": [{"name": "neuron-serve", "rules": chosen}]}
