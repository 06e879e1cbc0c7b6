"""Monitoring in the recorded graph: there where a stack asks for it, closed, and gone before its ground."""

from __future__ import annotations

import json

from infra import versions
from offline.delete_order import dependencies
from offline.manifests import manifests
from tests.graph.conftest import Evaluated

RELEASE = "kubernetes:helm.sh/v3:Release"


def test_prod_has_the_pinned_chart_and_local_has_none(evaluated: Evaluated) -> None:
    (release,) = [r for r in evaluated("prod").by_type(RELEASE) if r.name == "monitoring"]
    assert release.inputs["version"] == versions.KUBE_PROMETHEUS_STACK
    assert not [r for r in evaluated("local").by_type(RELEASE) if r.name == "monitoring"]


def test_what_the_charts_crds_define_comes_after_the_chart(evaluated: Evaluated) -> None:
    graph = evaluated("prod")
    (release,) = [r for r in graph.by_type(RELEASE) if r.name == "monitoring"]
    objects = [r for r in graph.resources if ":monitoring.coreos.com/v1:" in f":{r.type.split(':', 1)[1]}"]
    assert {r.type.rpartition(":")[2] for r in objects} == {"PodMonitor", "PrometheusRule"}
    assert all(release.urn in dependencies(graph)[r.urn] for r in objects)


def test_grafanas_password_is_drawn_once_and_no_plain_text(evaluated: Evaluated) -> None:
    graph = evaluated("prod")
    secret = graph.one("kubernetes:core/v1:Secret", "grafana-admin")
    assert secret.ignore_changes == ["data"]
    assert "$secret" in json.dumps(secret.inputs["data"])
    (rendered,) = [one for one in manifests(graph, {}).objects if one["metadata"]["name"] == "grafana-admin"]
    assert rendered["data"].keys() == {"admin-user", "admin-password"}
    assert "SECRET_MONITORING_GRAFANA_ADMIN" in rendered["data"]["admin-password"]


def test_the_dashboards_are_where_grafana_looks(evaluated: Evaluated) -> None:
    boards = evaluated("prod").one("kubernetes:core/v1:ConfigMap", "monitoring-dashboards")
    assert boards.inputs["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert boards.inputs["data"].keys() == {"neuron-serve.json", "neuron-serve-nodes.json"}


def test_nothing_of_it_is_exposed(evaluated: Evaluated) -> None:
    (release,) = [r for r in evaluated("prod").by_type(RELEASE) if r.name == "monitoring"]
    text = json.dumps(release.inputs["values"])
    assert "ingress" not in text
    assert "LoadBalancer" not in text
    assert "NodePort" not in text
