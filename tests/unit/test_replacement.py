"""What replaces a resource, held against the SDKs that the project uses."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pulumi_aws
import pulumi_eks
import pytest

from offline.diff.properties import ABSENT, PropertyChange
from offline.diff.replacement import Verdict, all_rules, deletes_first, rules_for
from offline.graph import Resource

AWS = Path(pulumi_aws.__file__).parent
EKS = Path(pulumi_eks.__file__).parent
KUBERNETES = "kubernetes:"


@cache
def properties_of(type_: str) -> set[str]:
    """Names of the inputs of an AWS or EKS type, in Pulumi's spelling, read from the SDK's source."""
    package, module, _ = type_.split(":")
    if package == "eks":
        source = EKS / "cluster.py"
    else:
        service, file = module.split("/")
        name = re.sub("([A-Z])", lambda upper: f"_{upper[0].lower()}", file)
        source = AWS / service / f"{name}.py"
    text = source.read_text()
    named = set(re.findall(r'@pulumi\.getter\(name="(\w+)"\)', text))
    return named | set(re.findall(r"@pulumi\.getter\n    def (\w+)\(", text))


def listed(type_: str) -> set[str]:
    rules = all_rules()[type_]
    known = (
        *rules.replaces,
        *rules.updates,
        *rules.appears,
        *rules.depends,
        *([rules.name] if rules.name else []),
    )
    return {path.partition(".")[0] for path in known} - {"*"}


@pytest.mark.parametrize(
    "type_", sorted(type_ for type_ in all_rules() if type_.startswith(("aws:", "eks:")))
)
def test_every_listed_property_is_one_of_the_type(type_: str) -> None:
    assert listed(type_) <= properties_of(type_)


@pytest.mark.parametrize("type_", sorted(all_rules()))
def test_every_type_names_its_source_and_no_property_twice(type_: str) -> None:
    rules = all_rules()[type_]
    assert re.fullmatch(r"([0-9a-f]{40}/)?[\w./-]+\.(go|ts)", rules.source)
    known = [*rules.replaces, *rules.updates, *rules.appears, *rules.depends]
    assert len(known) == len(set(known))


@pytest.mark.parametrize(
    ("type_", "change", "verdict"),
    [
        ("aws:ec2/vpc:Vpc", ("cidrBlock", "a", "b"), Verdict.REPLACES),
        ("aws:ec2/vpc:Vpc", ("tags.Name", "a", "b"), Verdict.UPDATES),
        ("aws:ec2/vpc:Vpc", ("inventedBlock", "a", "b"), Verdict.UNKNOWN),
        ("aws:eks/nodeGroup:NodeGroup", ("launchTemplate.id", "a", "b"), Verdict.REPLACES),
        ("aws:eks/nodeGroup:NodeGroup", ("launchTemplate.version", "1", "2"), Verdict.UPDATES),
        ("aws:eks/nodeGroup:NodeGroup", ("launchTemplate", ABSENT, {"id": "a"}), Verdict.REPLACES),
        (
            "aws:elasticache/replicationGroup:ReplicationGroup",
            ("engineVersion", "7.1", "7.0"),
            Verdict.DEPENDS,
        ),
        ("kubernetes:apps/v1:Deployment", ("spec.selector.matchLabels.app", "a", "b"), Verdict.REPLACES),
        (
            "kubernetes:apps/v1:Deployment",
            ("spec.template.spec.containers[a].image", "a", "b"),
            Verdict.UPDATES,
        ),
        ("kubernetes:batch/v1:Job", ("spec.template.spec.containers[a].image", "a", "b"), Verdict.REPLACES),
        ("kubernetes:core/v1:ConfigMap", ("data.x", "a", "b"), Verdict.REPLACES),
        ("kubernetes:karpenter.sh/v1:NodePool", ("spec.limits", "a", "b"), Verdict.UPDATES),
        ("kubernetes:karpenter.sh/v1:NodePool", ("metadata.name", "a", "b"), Verdict.REPLACES),
    ],
)
def test_a_change_has_the_effect_that_the_provider_gives_it(
    type_: str, change: tuple[str, Any, Any], verdict: Verdict
) -> None:
    rules = rules_for(type_)
    assert rules is not None
    assert rules.verdict(PropertyChange(*change))[0] is verdict


def test_the_kind_of_source_of_a_security_group_rule_replaces_and_its_value_does_not() -> None:
    rules = rules_for("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert rules is not None
    assert rules.verdict(PropertyChange("cidrIpv4", "10.0.0.0/16", "0.0.0.0/0"))[0] is Verdict.UPDATES
    assert rules.verdict(PropertyChange("cidrIpv4", ABSENT, "0.0.0.0/0"))[0] is Verdict.REPLACES


def test_nothing_is_known_of_a_type_that_is_not_listed() -> None:
    assert rules_for("aws:lambda/function:Function") is None


def resource(type_: str, **inputs: Any) -> Resource:
    return Resource(urn=f"urn:pulumi:dev::p::{type_}::x", type=type_, name="x", custom=True, inputs=inputs)


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        (resource("aws:iam/role:Role"), resource("aws:iam/role:Role"), False),
        (resource("aws:iam/role:Role", name="fixed"), resource("aws:iam/role:Role", name="fixed"), True),
        (
            resource("kubernetes:core/v1:Secret", metadata={"name": "a", "namespace": "n"}),
            resource("kubernetes:core/v1:Secret", metadata={"name": "a", "namespace": "n"}),
            True,
        ),
        (
            resource("kubernetes:batch/v1:Job", metadata={"name": "release-1", "namespace": "n"}),
            resource("kubernetes:batch/v1:Job", metadata={"name": "release-2", "namespace": "n"}),
            False,
        ),
        (
            resource("kubernetes:core/v1:Secret", metadata={"name": "a", "namespace": "n"}),
            resource("kubernetes:core/v1:Secret", metadata={"name": "a", "namespace": "m"}),
            False,
        ),
        (resource("kubernetes:core/v1:Secret"), resource("kubernetes:core/v1:Secret"), False),
        (resource("aws:lambda/function:Function"), resource("aws:lambda/function:Function"), None),
    ],
    ids=["random name", "fixed name", "same object", "new name", "new namespace", "unnamed", "unknown type"],
)
def test_what_keeps_its_name_is_deleted_first(before: Resource, after: Resource, first: bool | None) -> None:
    assert deletes_first(before, after) is first
