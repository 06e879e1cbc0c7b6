"""Dashboards and alerts: what they ask for exists, and what they say leads somewhere."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import ray.serve._private.deployment_state as deployment_state
import yaml

from infra.alarms import role_changes
from infra.alerts import ALERTS, rules
from infra.dashboards import NODES, SERVICES, Dashboard
from infra.monitoring import chart_values, merged, pod_monitors
from infra.monitoring_config import Alarms, Monitoring
from tests import schemas

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES: dict[str, list[str]] = yaml.safe_load((CHECKOUT / "tests/data/metric_names.yaml").read_text())
HISTOGRAM_SERIES = re.compile(r"_(bucket|sum|count)$")
# What is no metric in PromQL: strings, matchers, ranges, lists of labels, functions, operators, numbers.
NOT_METRICS = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|group_left|ignoring)\s*\([^)]*\)'
    r"|\b[a-z_]+(?=\s*\()|\b(?:and|or|unless|sum|max|min|avg|by|on)\b|\b\d[\d.e]*"
)


def metrics_of(query: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", NOT_METRICS.sub(" ", query)))


def queries() -> dict[str, str]:
    panels = {
        f"{board.uid}: {panel.title}: {legend}": query
        for board in (SERVICES, NODES)
        for panel in board.panels
        for legend, query in panel.queries.items()
    }
    return panels | {alert.name: alert.query for alert in ALERTS}


def test_the_names_are_found_in_promql() -> None:
    query = (
        'histogram_quantile(0.5, sum by (model, le) (rate(a_bucket{x="y_z"}[5m]))) > 1e3 '
        "unless on (n) b_total == 1 and time() - c < 600"
    )
    assert metrics_of(query) == {"a_bucket", "b_total", "c"}


@pytest.mark.parametrize("place", queries())
def test_every_query_asks_for_metrics_that_exist(place: str) -> None:
    known = {name for names in NAMES.values() for name in names}
    used = metrics_of(queries()[place])
    assert used
    for name in used:
        assert name in known or HISTOGRAM_SERIES.sub("", name) in known, name


def test_every_listed_name_of_ray_is_in_its_source() -> None:
    source = Path(deployment_state.__file__).read_text()
    for name in NAMES["ray"]:
        assert f'"{name.removeprefix("ray_")}"' in source, name


def test_every_listed_name_of_the_app_is_documented() -> None:
    page = CHECKOUT / "docs" / "metrics.md"
    assert {f"`{name}`" for name in NAMES["app"]} <= set(
        re.findall(r"`ray_neuron_serve_\w+`", page.read_text())
    )


def test_parentheses_and_quotes_of_every_query_match() -> None:
    for place, query in queries().items():
        for opening, closing in ("()", "{}", "[]"):
            assert query.count(opening) == query.count(closing), place
        assert query.count('"') % 2 == 0, place


@pytest.mark.parametrize("board", [SERVICES, NODES])
def test_panels_of_a_dashboard_do_not_overlap(board: Dashboard) -> None:
    panels = json.loads(board.json())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len(board.panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_links_to_a_section_of_the_runbooks() -> None:
    headings = re.findall(r"^## (.+)$", (CHECKOUT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for alert in ALERTS:
        assert alert.runbook in anchors, alert.name
    assert anchors == {alert.runbook for alert in ALERTS}


def test_the_primary_that_changes_is_seen_in_a_window_with_both_roles() -> None:
    """The alarm's expression, computed: one that CloudWatch would compute the same way."""

    def changed(*nodes: list[int] | None) -> float:
        watched, *_ = role_changes([f"gcs-store-00{index + 1}" for index in range(len(nodes))])
        means = {f"node{index}": _mean(samples) for index, samples in enumerate(nodes)}
        functions = {
            "CEIL": math.ceil,
            "FLOOR": math.floor,
            "FILL": lambda x, other: other if x is None else x,
        }
        return eval(str(watched.expression), {**functions, **means})

    assert changed([1, 1, 1], [0, 0, 0]) == 0
    assert changed([1, 1, 0], [0, 0, 1]) == 2
    assert changed(None, [0, 0, 1]) == 1  # the old primary is dead and says nothing
    assert changed(None, [1, 1, 1]) == 0
    assert changed([0, 0], [1, 1], [0]) == 0


def _mean(samples: list[int] | None) -> float | None:
    return None if samples is None else sum(samples) / len(samples)


def test_alerts_about_neuron_devices_are_for_aws() -> None:
    def names(on_aws: bool) -> set[str]:
        return {rule["alert"] for rule in rules(on_aws=on_aws)["groups"][0]["rules"]}

    assert names(True) - names(False) == {"NeuronCoresPending"}


def test_monitors_look_at_every_kind_of_pod() -> None:
    assert pod_monitors(["b", "a"], on_aws=False).keys() == {"ray", "kuberay"}
    monitors = pod_monitors(["b", "a"], on_aws=True)
    assert monitors.keys() == {"ray", "kuberay", "karpenter", "neuron"}
    assert monitors["ray"]["namespaceSelector"]["matchNames"] == ["a", "b"]


def test_values_of_the_stack_file_go_before_ours() -> None:
    more = {"grafana": {"admin": {"existingSecret": "mine"}}, "alertmanager": {"config": {"route": {}}}}
    values = merged(chart_values(on_aws=True), more)
    assert values["grafana"]["admin"] == {"existingSecret": "mine"}
    assert values["grafana"]["affinity"]
    assert values["alertmanager"].keys() == {"alertmanagerSpec", "config"}


@pytest.mark.parametrize("on_aws", [True, False])
def test_values_are_values_that_the_chart_has(on_aws: bool) -> None:
    known = schemas.load("kube-prometheus-stack-88.5.3.yaml")

    def assert_known(values: dict[str, Any], defaults: Any, path: str) -> None:
        for key, value in values.items():
            # Subcharts have values of their own, and the stack's values name few of them.
            if path in ("grafana.", "kube-state-metrics."):
                assert key in defaults or key in ("affinity", "tolerations"), f"{path}{key}"
                continue
            assert key in defaults, f"{path}{key}"
            if isinstance(value, dict) and defaults[key] and key not in ("resources", "affinity"):
                assert_known(value, defaults[key], f"{path}{key}.")

    assert_known(chart_values(on_aws=on_aws), known, "")


def test_chart_values_without_the_chart_are_refused() -> None:
    with pytest.raises(ValueError, match="no effect without enabled: true"):
        Monitoring.model_validate({"chartValues": {"a": 1}})


@pytest.mark.parametrize("address", ["oncall", "http://events.example.com", "https://localhost", "a b@c.de"])
def test_an_address_that_sns_cannot_reach_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no e-mail address and no https:// URL"):
        Alarms.model_validate({"notify": [address]})


def test_nobody_is_notified_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        Alarms.model_validate({"notify": ["oncall@example.com", "oncall@example.com"]})
