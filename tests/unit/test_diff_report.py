"""The report: figures, warnings, and a comment that fits and says nothing it should not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from offline.diff.figures import Figures, conspicuous, rise
from offline.diff.markdown import LONGEST, markdown
from offline.diff.ray import RAY_SERVICE
from offline.diff.report import Report, StackReport, stack_report
from offline.diff.text import text
from offline.graph import Graph, Resource

RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
COST = {"currency": "USD", "min": 10.0, "max": 20.0, "parts": {"nodes": 20.0}, "unknown": []}
CORES = {"min": 24, "max": 48, "upgradePeak": 96}


def graph(*resources: Resource, **outputs: Any) -> Graph:
    return Graph(project="p", stack="prod", resources=list(resources), outputs=outputs)


def rule(cidr: str, name: str = "api") -> Resource:
    urn = f"urn:pulumi:prod::p::{RULE}::{name}"
    inputs = {"cidrIpv4": cidr, "fromPort": 443, "toPort": 443}
    return Resource(urn=urn, type=RULE, name=name, custom=True, inputs=inputs)


def report_of(before: Graph | None, after: Graph | None) -> StackReport:
    return stack_report("prod", before, after, {})


def both(stack: StackReport) -> tuple[str, str]:
    report = Report(base="main", head="the work tree", stacks=[stack])
    return text(report), markdown(report)


def test_figures_are_read_from_the_outputs() -> None:
    figures = Figures.of(graph(costPerHour=COST, neuronCores=CORES))
    assert (figures.currency, figures.cost_min, figures.cost_max, figures.upgrade_peak) == (
        "USD",
        10.0,
        20.0,
        96,
    )


@pytest.mark.parametrize(
    "outputs", [{}, {"costPerHour": {"$unknown": True}}, {"costPerHour": {"min": "much"}}]
)
def test_figures_that_are_not_there_are_unknown(outputs: dict[str, Any]) -> None:
    figures = Figures.of(graph(**outputs))
    assert (figures.cost_max, figures.cores_max) == (None, None)
    for output in both(report_of(graph(**outputs), graph(rule("10.0.0.0/8"), **outputs))):
        assert "cost unknown" in output
        assert "NeuronCores unknown" in output


def test_a_doubled_cost_is_pointed_at() -> None:
    doubled = {**COST, "min": 20.0, "max": 40.0, "unknown": ["NAT traffic"]}
    before, after = graph(costPerHour=COST), graph(costPerHour=doubled)
    assert rise(20.0, 40.0) == 1.0
    assert conspicuous(Figures.of(before), Figures.of(after))
    for output in both(report_of(before, after)):
        assert "the cost at full scale rises by 100%" in output
    assert (
        "10.00-20.00 USD/h → 20.00-40.00 USD/h (+100% at full scale), without NAT traffic"
        in both(report_of(before, graph(rule("10.0.0.0/8"), costPerHour=doubled)))[0]
    )


def test_a_small_rise_is_told_and_not_pointed_at() -> None:
    little = {**COST, "max": 21.0}
    assert report_of(graph(costPerHour=COST), graph(costPerHour=little)).warnings == []


def test_an_opened_security_group_is_pointed_at() -> None:
    stack = report_of(graph(rule("10.0.0.0/8")), graph(rule("0.0.0.0/0")))
    plain, comment = both(stack)
    assert "! new policy violation, no-open-ingress: SecurityGroupIngressRule api" in plain
    assert ":warning: new policy violation, no-open-ingress" in comment
    assert '`cidrIpv4`: `"10.0.0.0/8"` → `"0.0.0.0/0"`' in comment


def test_old_violations_are_listed_and_fixed_ones_said() -> None:
    stack = report_of(graph(rule("0.0.0.0/0", "a"), rule("0.0.0.0/0", "b")), graph(rule("0.0.0.0/0", "a")))
    assert [violation.resource for violation in stack.existing_violations] == ["SecurityGroupIngressRule a"]
    assert [violation.resource for violation in stack.fixed_violations] == ["SecurityGroupIngressRule b"]
    assert stack.new_violations == []
    plain, _ = both(stack)
    assert "policy violations there were before" in plain
    assert "policy violations that are gone" in plain


def test_a_protected_resource_that_goes_is_pointed_at() -> None:
    protected = Resource(urn="urn:pulumi:prod::p::t::db", type="a:b:Db", name="db", custom=True, protect=True)
    assert report_of(graph(protected), graph()).warnings == ["Db db is protected and would be deleted"]


def test_a_replacement_that_takes_nothing_away_is_not_pointed_at() -> None:
    def code(key: str, *, retained: bool) -> Graph:
        type_ = "aws:s3/bucketObjectv2:BucketObjectv2"
        urn = f"urn:pulumi:prod::p::{type_}::code"
        inputs = {"key": key}
        return graph(
            Resource(urn=urn, type=type_, name="code", custom=True, inputs=inputs, retain_on_delete=retained)
        )

    assert report_of(code("1", retained=False), code("2", retained=False)).warnings != []
    kept = report_of(code("1", retained=True), code("2", retained=True))
    assert kept.warnings == []
    assert "replaced, the old one stays; because of key" in both(kept)[0]


def model(slots: int, replicas: int) -> Graph:
    deployments = [{"name": "Engine", "num_replicas": replicas}]
    serve = {"applications": [{"name": "chat", "args": {"slots": slots}, "deployments": deployments}]}
    inputs = {"spec": {"rayClusterConfig": {}, "serveConfigV2": yaml.safe_dump(serve)}}
    urn = f"urn:pulumi:prod::p::{RAY_SERVICE}::chat"
    return graph(Resource(urn=urn, type=RAY_SERVICE, name="chat", custom=True, inputs=inputs))


def test_what_a_reload_costs_a_single_replica_is_pointed_at() -> None:
    plain, comment = both(report_of(model(8, 1), model(4, 1)))
    words = "chat may be away while it loads: of chat/Engine there can be one replica"
    assert f"! {words}" in plain
    assert f":warning: {words}" in comment


def test_two_replicas_reload_without_a_warning() -> None:
    assert report_of(model(8, 2), model(4, 2)).warnings == []


def test_a_stack_of_one_side_only_is_explained() -> None:
    assert "the base has no file for this stack" in both(report_of(None, graph(rule("10.0.0.0/8"))))[0]
    assert "the head has no file for this stack" in both(report_of(graph(rule("10.0.0.0/8")), None))[0]


def test_nothing_is_said_of_a_stack_without_changes() -> None:
    stack = report_of(graph(rule("0.0.0.0/0"), costPerHour=COST), graph(rule("0.0.0.0/0"), costPerHour=COST))
    plain, comment = both(stack)
    assert "prod: no change" in plain
    assert "<details>" not in comment


def test_a_long_comment_is_cut_and_closed() -> None:
    many = [rule("10.0.0.0/8", f"rule-{index}-{'x' * 50}") for index in range(2000)]
    report = Report(base="main", head="work", stacks=[report_of(graph(), graph(*many))] * 3)
    comment = markdown(report)
    assert LONGEST - 1000 < len(comment) <= LONGEST
    assert comment.count("<details>") == comment.count("</details>") == 1
    assert "The rest is left out" in comment
    assert comment.startswith("### Stacks: main → work\n\n- **prod**: 2000 added")


@pytest.mark.parametrize(
    "name", ["</details><script>alert(1)</script>", "@everybody look", "a`b``c", "![x](http://x)", "a\n# b"]
)
def test_names_and_values_of_a_pull_request_stay_values(name: str) -> None:
    _, comment = both(report_of(graph(), graph(rule(name, name))))
    outside = "".join(part for index, part in enumerate(comment.split("`")) if index % 2 == 0)
    for markup in ("<script", "@everybody", "![x](", "\n# b"):
        assert markup not in outside
