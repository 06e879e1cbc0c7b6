"""Every IAM document of the production stack with all its options: what it grants, to whom, and on what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from offline.graph import Graph, is_unknown
from offline.recorder import evaluate
from tests.graph.stacks import stack_file

KEY = "aws:kms/key:Key"
# Properties that hold an IAM document; ECR's are none.
DOCUMENTS = {
    "aws:iam/role:Role": "assumeRolePolicy",
    "aws:iam/rolePolicy:RolePolicy": "policy",
    "aws:iam/policy:Policy": "policy",
    "aws:s3/bucketPolicy:BucketPolicy": "policy",
    "aws:sqs/queuePolicy:QueuePolicy": "policy",
    "aws:sns/topicPolicy:TopicPolicy": "policy",
    KEY: "policy",
}
ACCOUNT = "arn:aws:iam::123456789012:root"
SERVICES = {
    "ec2.amazonaws.com",
    "eks.amazonaws.com",
    "pods.eks.amazonaws.com",
    "events.amazonaws.com",
    "sqs.amazonaws.com",
    "cloudwatch.amazonaws.com",
}

# It names the security group of the nodes, which a deployment makes; tests/unit/test_ingress.py reads it.
READ_ELSEWHERE = {"RolePolicy load-balancers"}


@cache
def everything() -> Graph:
    aws = stack_file("prod")["neuron-serve:aws"] | {
        "ingress": {
            "enabled": True,
            "certificateArn": "arn:aws:acm:us-west-2:123456789012:certificate/0a1b",
            "host": "models.example.com",
        },
        "artifacts": {"modelBucket": "my-models"},
        "alarms": {"notify": ["oncall@example.com"]},
    }
    return evaluate("prod", config_overrides={"aws": aws})


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in everything().resources:
        if resource.type not in DOCUMENTS:
            continue
        text = resource.inputs.get(DOCUMENTS[resource.type])
        if text is None and resource.type == KEY:
            continue  # KMS's default: whoever the account's own policies allow
        if is_unknown(text):
            assert resource.label in READ_ELSEWHERE, f"{resource.label} cannot be read"
            continue
        document = json.loads(text)
        assert document["Version"] == "2012-10-17", resource.label
        for statement in document["Statement"]:
            yield resource.label, statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_there_are_documents_of_every_kind() -> None:
    found = {r.type for r in everything().resources} & DOCUMENTS.keys()
    assert found >= DOCUMENTS.keys() - {"aws:iam/policy:Policy"}
    assert len(list(statements())) > 30


def test_every_inline_or_attached_document_of_the_graph_is_looked_at() -> None:
    known = {*DOCUMENTS, "aws:ecr/lifecyclePolicy:LifecyclePolicy"}
    for resource in everything().resources:
        for key, value in resource.inputs.items():
            if isinstance(value, str) and '"Statement"' in value:
                assert resource.type in known, f"{resource.label}.{key} is not read by these tests"


def test_no_statement_allows_a_wildcard_of_actions() -> None:
    for label, statement in statements():
        if statement["Effect"] == "Allow":
            assert "NotAction" not in statement, label
            for action in listed(statement["Action"]):
                assert not action.endswith("*"), (label, action)


def test_denials_only_insist_on_tls() -> None:
    denials = [(label, s) for label, s in statements() if s["Effect"] == "Deny"]
    assert denials
    for label, statement in denials:
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, label


def test_nothing_is_granted_to_everybody() -> None:
    for label, statement in statements():
        if statement["Effect"] == "Allow" and "Principal" in statement:
            if label.startswith("Key "):
                # Nobody could change or delete a key of which its account may not.
                assert statement["Principal"] in ({"AWS": ACCOUNT}, {"Service": "cloudwatch.amazonaws.com"})
                continue
            assert set(statement["Principal"]) == {"Service"}, label
            assert set(listed(statement["Principal"]["Service"])) <= SERVICES, label


def test_all_resources_are_meant_only_where_the_action_has_none_or_a_condition_narrows_it() -> None:
    for label, statement in statements():
        # In the policy of a key it is that key.
        if label.startswith("Key "):
            continue
        if "*" in listed(statement.get("Resource", [])) and statement["Effect"] == "Allow":
            reads = all(
                action.partition(":")[2].startswith(("Describe", "Get", "List"))
                for action in listed(statement["Action"])
            )
            assert reads or statement.get("Condition"), (label, statement)


@pytest.mark.parametrize("role", ["karpenter-controller", "artifacts-ray", "cluster-ebs-csi"])
def test_roles_of_pods_are_assumed_by_pod_identity_alone(role: str) -> None:
    found = everything().one("aws:iam/role:Role", role)
    (statement,) = json.loads(found.inputs["assumeRolePolicy"])["Statement"]
    assert listed(statement["Principal"]["Service"]) == ["pods.eks.amazonaws.com"]


def test_every_role_policy_belongs_to_a_role_of_the_stack() -> None:
    roles = {r.urn for r in everything().by_type("aws:iam/role:Role")}
    for policy in everything().by_type("aws:iam/rolePolicy:RolePolicy"):
        assert set(policy.property_dependencies["role"]) <= roles, policy.label
        assert policy.property_dependencies["role"], policy.label
