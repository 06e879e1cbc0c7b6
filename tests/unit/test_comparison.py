"""Two graphs side by side: what is matched, what the engine would do, what follows from it."""

from __future__ import annotations

from typing import Any

from offline.diff.comparison import Changed, Comparison, compare
from offline.graph import Graph, Resource

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
ROUTE = "aws:ec2/route:Route"
SECRET = "kubernetes:core/v1:Secret"


def resource(type_: str, name: str, inputs: dict[str, Any], **fields: Any) -> Resource:
    urn = f"urn:pulumi:dev::p::{type_}::{name}"
    return Resource(urn=urn, type=type_, name=name, custom=True, inputs=inputs, **fields)


def graph(*resources: Resource) -> Graph:
    return Graph(project="p", stack="dev", resources=list(resources), outputs={})


def compared(before: list[Resource], after: list[Resource]) -> Comparison:
    return compare(graph(*before), graph(*after))


def only(comparison: Comparison) -> Changed:
    (changed,) = comparison.changed
    return changed


def test_a_graph_is_the_same_as_itself() -> None:
    vpc = resource(VPC, "v", {"cidrBlock": "10.0.0.0/16"})
    assert compared([vpc], [vpc]).empty


def test_resources_come_and_go() -> None:
    old, new = resource(VPC, "old", {}), resource(VPC, "new", {})
    comparison = compared([old], [new])
    assert (comparison.added, comparison.changed, comparison.removed) == ([new], [], [old])


def test_a_stack_that_one_side_does_not_have_comes_or_goes_as_a_whole() -> None:
    vpc = resource(VPC, "v", {})
    assert compare(None, graph(vpc)).added == [vpc]
    assert compare(graph(vpc), None).removed == [vpc]


def test_an_alias_is_the_same_resource_under_another_name() -> None:
    old = resource(VPC, "old", {"tags": {"a": "1"}})
    for alias in (old.urn, {"name": "old"}):
        new = resource(VPC, "new", {"tags": {"a": "2"}}, aliases=[alias])
        assert only(compared([old], [new])).action == "update"


def test_a_replacement_names_what_triggers_it_and_its_order() -> None:
    before, after = (resource(VPC, "v", {"cidrBlock": cidr}) for cidr in ("10.0.0.0/16", "10.1.0.0/16"))
    changed = only(compared([before], [after]))
    assert (changed.action, changed.because, changed.deletes_first) == ("replace", ["cidrBlock"], False)


def test_what_nobody_knows_is_unknown() -> None:
    before, after = (resource("aws:lambda/function:Function", "f", {"code": code}) for code in ("1", "2"))
    changed = only(compared([before], [after]))
    assert changed.action == "unknown"
    assert "aws:lambda/function:Function" in changed.because[0]


def test_a_property_whose_effect_depends_is_unknown_with_the_condition() -> None:
    type_ = "aws:elasticache/replicationGroup:ReplicationGroup"
    before, after = (resource(type_, "r", {"engineVersion": version}) for version in ("7.1", "7.0"))
    changed = only(compared([before], [after]))
    assert (changed.action, changed.because) == ("unknown", ["engineVersion replaces on a downgrade"])


def test_replace_on_changes_replaces() -> None:
    before, after = (
        resource(VPC, "v", {"tags": {"a": value}}, replace_on_changes=["tags"]) for value in ("1", "2")
    )
    assert only(compared([before], [after])).because == ["tags.a"]


def test_an_ignored_change_is_shown_and_does_nothing() -> None:
    before, after = (
        resource(SECRET, "s", {"data": {"a": value}}, ignore_changes=["data"]) for value in ("1", "2")
    )
    changed = only(compared([before], [after]))
    assert changed.action == "none"
    assert [change.ignored for change in changed.properties] == [True]


def test_an_option_changes_the_state_only() -> None:
    before, after = (resource(VPC, "v", {}, protect=protect) for protect in (False, True))
    changed = only(compared([before], [after]))
    assert changed.action == "state only"
    assert [change.path for change in changed.options] == ["options.protect"]


def vpc_and_what_needs_it(cidr: str) -> list[Resource]:
    vpc = resource(VPC, "v", {"cidrBlock": cidr})
    subnet = resource(
        SUBNET, "s", {"vpcId": "v-1"}, dependencies=[vpc.urn], property_dependencies={"vpcId": [vpc.urn]}
    )
    route = resource(
        ROUTE,
        "r",
        {"gatewayId": "s-1"},
        dependencies=[subnet.urn],
        property_dependencies={"gatewayId": [subnet.urn]},
    )
    return [vpc, subnet, route]


def test_a_replacement_is_followed_to_the_end() -> None:
    comparison = compared(vpc_and_what_needs_it("10.0.0.0/16"), vpc_and_what_needs_it("10.1.0.0/16"))
    assert [(changed.resource.name, changed.action) for changed in comparison.changed] == [
        ("v", "replace"),
        ("s", "replace"),
        ("r", "update"),
    ]
    assert comparison.changed[1].because == ["vpcId comes from what is replaced: Vpc v"]


def test_a_replacement_under_the_same_name_is_not_followed() -> None:
    metadata = {"name": "keys", "namespace": "chat"}

    def resources(value: str) -> list[Resource]:
        secret = resource(SECRET, "s", {"metadata": metadata, "data": {"a": value}})
        user = resource(
            "kubernetes:core/v1:ConfigMap",
            "c",
            {"data": {"n": "keys"}},
            property_dependencies={"data": [secret.urn]},
        )
        return [secret, user]

    assert [changed.resource.name for changed in compared(resources("1"), resources("2")).changed] == ["s"]


def test_resources_of_a_replaced_provider_are_replaced() -> None:
    def resources(cluster: str) -> list[Resource]:
        provider = resource("pulumi:providers:kubernetes", "k", {"clusterIdentifier": cluster})
        return [provider, resource(SECRET, "s", {}, provider=provider.urn)]

    comparison = compared(resources("a"), resources("b"))
    assert [changed.action for changed in comparison.changed] == ["replace", "replace"]
    assert "its provider kubernetes k is replaced" in comparison.changed[1].because
