"""The permissions of Karpenter's controller: each has a reason, and none reaches beyond its cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.aws_scope import AwsScope
from infra.iam import Statement, allow
from infra.karpenter_policies import controller_policies

# The longest name that a stack can give its cluster.
SCOPE = AwsScope("aws", "us-west-2", "123456789012", "c" * 32)
NODE_ROLE = f"arn:aws:iam::{SCOPE.account_id}:role/neuron-serve-nodes-1234567"
QUEUE = f"arn:aws:sqs:{SCOPE.region}:{SCOPE.account_id}:interruption-1234567"
POLICIES = controller_policies(SCOPE, node_role_arn=NODE_ROLE, queue_arn=QUEUE)
STATEMENTS = [statement for statements in POLICIES.values() for statement in statements]

# Quota "Role inline policy length limit" of IAM: all of a role's, without white space
# (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
INLINE_POLICIES_MAX_CHARS = 10_240

every_statement = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.actions[0])


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def conditions_of(action: str) -> list[dict[str, Any]]:
    return [plain(statement.conditions) for statement in STATEMENTS if action in statement.actions]


@every_statement
def test_every_statement_says_why_in_a_sentence(statement: Statement) -> None:
    assert statement.why[0].isupper()
    assert statement.why.endswith(".")
    assert len(statement.why.split()) >= 5


@every_statement
def test_every_action_is_named_in_full(statement: Statement) -> None:
    for action in statement.actions:
        service, _, name = action.partition(":")
        assert service
        assert name.isalpha(), action


@every_statement
def test_whatever_changes_something_is_scoped(statement: Statement) -> None:
    reads = all(action.split(":")[1].startswith(("Describe", "Get", "List")) for action in statement.actions)
    for resource in map(str, statement.resources):
        if resource == "*":
            assert reads
            continue
        _, partition, service, region, account, _ = resource.split(":", 5)
        assert partition == "aws"
        assert region == ("" if service == "iam" else SCOPE.region)
        # Images and their snapshots belong to AWS, public parameters to nobody; reservations may be shared.
        somebody_elses = ("image/", "snapshot/", "capacity-reservation/", "parameter/aws/service/")
        assert account == SCOPE.account_id or any(kind in resource for kind in somebody_elses), resource


@pytest.mark.parametrize(
    "action",
    ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate", "ec2:CreateTags", "ec2:CreateLaunchTemplate"],
)
def test_a_wildcard_over_machines_is_bound_to_the_clusters_tag(action: str) -> None:
    for conditions in conditions_of(action):
        owned = [key for key, value in conditions["StringEquals"].items() if value == "owned"]
        assert owned in (
            [f"aws:ResourceTag/kubernetes.io/cluster/{SCOPE.cluster_name}"],
            [f"aws:RequestTag/kubernetes.io/cluster/{SCOPE.cluster_name}"],
        )


def test_only_machines_of_the_cluster_are_ended() -> None:
    (conditions,) = conditions_of("ec2:TerminateInstances")
    assert conditions == {
        "StringEquals": {f"aws:ResourceTag/kubernetes.io/cluster/{SCOPE.cluster_name}": "owned"},
        "StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"},
    }


def test_tags_are_written_while_a_machine_is_made_or_are_its_name() -> None:
    made, named = conditions_of("ec2:CreateTags")
    assert made["StringEquals"]["ec2:CreateAction"] == ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]
    assert named["ForAllValues:StringEquals"] == {
        "aws:TagKeys": ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
    }


def test_the_node_role_is_the_only_one_that_can_be_passed_on() -> None:
    (statement,) = [statement for statement in STATEMENTS if "iam:PassRole" in statement.actions]
    assert statement.resources == [NODE_ROLE]
    assert plain(statement.conditions)["StringEquals"]["iam:PassedToService"][0] == "ec2.amazonaws.com"


def test_the_queue_is_read_and_emptied_and_no_other() -> None:
    (statement,) = POLICIES["interruption"]
    assert statement.resources == [QUEUE]
    assert set(statement.actions) == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueUrl"}


@pytest.mark.parametrize(
    "action",
    [
        # Younger than the split of the policies, and missing in many copies of them.
        "ec2:DescribeInstanceStatus",
        "ec2:DescribePlacementGroups",
        "iam:ListInstanceProfiles",
        "ec2:DescribeCapacityReservations",
    ],
)
def test_what_this_version_of_karpenter_came_to_need_is_there(action: str) -> None:
    assert conditions_of(action)


async def test_all_policies_fit_one_role() -> None:
    documents = [await allow(*statements).future() for statements in POLICIES.values()]
    compact = [json.dumps(json.loads(document or ""), separators=(",", ":")) for document in documents]
    assert 0 < sum(map(len, compact)) < INLINE_POLICIES_MAX_CHARS
