"""Grafana dashboards of a stack, as data: titles, units and queries.

Names of metrics come from docs/metrics.md and from the sources in tests/data/metric_names.yaml, which a test
holds every query to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
# Grafana's own panels need a schema version; it moves older ones up by itself.
_SCHEMA_VERSION = 39


@dataclass(frozen=True)
class Panel:
    """A graph over time. `queries` are PromQL by legend; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: dict[str, str]


@dataclass(frozen=True)
class Dashboard:
    """`uid` is the dashboard's address in Grafana, and the name of its file."""

    uid: str
    title: str
    panels: Sequence[Panel]

    def json(self) -> str:
        """The dashboard as Grafana reads it."""
        return json.dumps(
            {
                "uid": self.uid,
                "title": self.title,
                "schemaVersion": _SCHEMA_VERSION,
                "refresh": "30s",
                "time": {"from": "now-3h", "to": "now"},
                "panels": [_panel(index, panel) for index, panel in enumerate(self.panels)],
            },
            sort_keys=True,
        )


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "gridPos": {
            "x": index % _COLUMNS * _WIDTH,
            "y": index // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _quantiles(histogram: str) -> dict[str, str]:
    """Median and the slow end of one of our histograms, by model."""
    return {
        f"{{{{model}}}} p{percent}": f"histogram_quantile({percent / 100}, "
        f"sum by (model, le) (rate(ray_neuron_serve_{histogram}_bucket[5m])))"
        for percent in (50, 95, 99)
    }


def _by_model(query: str) -> dict[str, str]:
    return {"{{model}}": f"sum by (model) ({query})"}


SERVICES = Dashboard(
    "neuron-serve",
    "neuron-serve: services",
    (
        Panel(
            "Requests",
            "reqps",
            {
                "{{model}} {{status}}": "sum by (model, status) (rate(ray_neuron_serve_requests_total[5m]))",
            },
        ),
        Panel("Time to first token", "s", _quantiles("time_to_first_token_seconds")),
        Panel("Time between tokens", "s", _quantiles("time_between_tokens_seconds")),
        Panel("Whole requests", "s", _quantiles("request_seconds")),
        Panel(
            "Slots",
            "short",
            {
                "{{model}} in use": "sum by (model) (ray_neuron_serve_slots_in_use)",
                "{{model}} there are": "sum by (model) (ray_neuron_serve_slots)",
            },
        ),
        Panel("Requests that wait for a slot", "short", _by_model("ray_neuron_serve_queued_requests")),
        Panel("Tokens of answers", "short", _by_model("rate(ray_neuron_serve_generation_tokens_total[5m])")),
        Panel("Tokens of prompts", "short", _by_model("rate(ray_neuron_serve_prompt_tokens_total[5m])")),
        Panel(
            "Replicas",
            "short",
            {
                "{{application}} {{deployment}} healthy": "sum by (application, deployment) "
                "(ray_serve_deployment_replica_healthy)",
                "{{application}} {{deployment}} wanted": "max by (application, deployment) "
                "(ray_serve_autoscaling_target_replicas)",
            },
        ),
        Panel(
            "Answers with an error, share",
            "percentunit",
            {
                "{{model}}": 'sum by (model) (rate(ray_neuron_serve_requests_total{status=~"5.."}[5m])) '
                "/ sum by (model) (rate(ray_neuron_serve_requests_total[5m]))"
            },
        ),
    ),
)

NODES = Dashboard(
    "neuron-serve-nodes",
    "neuron-serve: NeuronCores and nodes",
    (
        Panel(
            "NeuronCores in use, share of time",
            "percentunit",
            {"{{instance}}": "avg by (instance) (neuroncore_utilization_ratio)"},
        ),
        Panel(
            "Memory of the Neuron runtime",
            "bytes",
            {
                "{{instance}} {{memory_location}}": "sum by (instance, memory_location) "
                "(neuron_runtime_memory_used_bytes)"
            },
        ),
        Panel(
            "Node pools: Neuron devices",
            "short",
            {
                "{{nodepool}} there are": "sum by (nodepool) "
                '(karpenter_nodepools_usage{resource_type="aws.amazon.com/neuron"})',
                "{{nodepool}} at most": "sum by (nodepool) "
                '(karpenter_nodepools_limit{resource_type="aws.amazon.com/neuron"})',
            },
        ),
        Panel(
            # Karpenter's own view, from list prices; no bill.
            "Node pools: price an hour as Karpenter sees it",
            "currencyUSD",
            {"{{nodepool}}": "sum by (nodepool) (karpenter_nodepools_cost_total)"},
        ),
        Panel("Pods without a node", "short", {"pods": "sum(karpenter_scheduler_unschedulable_pods_count)"}),
        Panel(
            "Nodes started and ended",
            "short",
            {
                f"{{{{nodepool}}}} {event}": "sum by (nodepool) "
                f"(increase(karpenter_nodeclaims_{event}_total[1h]))"
                for event in ("created", "terminated")
            },
        ),
    ),
)
