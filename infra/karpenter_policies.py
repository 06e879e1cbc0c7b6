"""What Karpenter's controller may do, one policy a concern.

Translated from the CloudFormation template of Karpenter v1.14.1
(https://github.com/aws/karpenter-provider-aws/blob/v1.14.1/website/content/en/preview/getting-started/getting-started-with-karpenter/cloudformation.yaml,
explained in https://karpenter.sh/v1.14/reference/cloudformation/), with these differences:

- EC2 resources are those of this account, where the template says any account; only capacity reservations may
  be somebody else's, because they can be shared.
- No zonal shift and no placement groups: neither is switched on here. Karpenter still looks placement groups
  up, as the template lets it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from infra.aws_scope import AwsScope
from infra.iam import Conditions, Statement

_LAUNCH = ["ec2:RunInstances", "ec2:CreateFleet"]
_MADE_BY_A_LAUNCH = (
    "fleet",
    "instance",
    "volume",
    "network-interface",
    "launch-template",
    "spot-instances-request",
)


def controller_policies(
    scope: AwsScope, *, node_role_arn: pulumi.Input[str], queue_arn: pulumi.Input[str]
) -> dict[str, list[Statement]]:
    """Statements by the name of their policy."""
    return {
        "node-lifecycle": _node_lifecycle(scope),
        "instance-profiles": _instance_profiles(scope, node_role_arn),
        "cluster-discovery": _cluster_discovery(scope),
        "interruption": _interruption(queue_arn),
        "resource-discovery": _resource_discovery(scope),
    }


def _node_lifecycle(scope: AwsScope) -> list[Statement]:
    made_by_a_launch = _ec2(scope, _MADE_BY_A_LAUNCH)
    marked = _marked_as_a_node(scope)
    return [
        Statement(
            why="A launch refers to an image, snapshots of its disks, subnets, security groups, and capacity "
            "reservations, which other accounts may share.",
            actions=_LAUNCH,
            resources=[
                scope.arn("ec2", "image/*", account_id=""),
                scope.arn("ec2", "snapshot/*", account_id=""),
                *_ec2(scope, ("security-group", "subnet")),
                scope.arn("ec2", "capacity-reservation/*", account_id="*"),
            ],
        ),
        Statement(
            why="Nodes start from launch templates that Karpenter made for this cluster, and from no other.",
            actions=_LAUNCH,
            resources=_ec2(scope, ("launch-template",)),
            conditions=_of_a_node(scope),
        ),
        Statement(
            why="What a launch makes is marked as this cluster's from its first moment.",
            actions=[*_LAUNCH, "ec2:CreateLaunchTemplate"],
            resources=made_by_a_launch,
            conditions=marked,
        ),
        Statement(
            why="Those marks come with the call that makes the resource, and not onto one that exists.",
            actions=["ec2:CreateTags"],
            resources=made_by_a_launch,
            conditions={
                **marked,
                "StringEquals": {
                    **marked["StringEquals"],
                    "ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"],
                },
            },
        ),
        Statement(
            why="A node that joined gets its name and its NodeClaim's as tags, and no other tag is changed.",
            actions=["ec2:CreateTags"],
            resources=_ec2(scope, ("instance",)),
            conditions={
                **_of_a_node(scope),
                "StringEqualsIfExists": {"aws:RequestTag/eks:eks-cluster-name": scope.cluster_name},
                "ForAllValues:StringEquals": {
                    "aws:TagKeys": ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
                },
            },
        ),
        Statement(
            why="Karpenter ends its own nodes and removes its own launch templates.",
            actions=["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"],
            resources=_ec2(scope, ("instance", "launch-template")),
            conditions=_of_a_node(scope),
        ),
    ]


def _instance_profiles(scope: AwsScope, node_role_arn: pulumi.Input[str]) -> list[Statement]:
    profiles = [scope.iam_arn("instance-profile/*")]
    asked = _profile_tags(scope, "aws:RequestTag")
    asked_equal = {**asked["StringEquals"], "aws:RequestTag/eks:eks-cluster-name": scope.cluster_name}
    there = _profile_tags(scope, "aws:ResourceTag")
    return [
        Statement(
            why="Nodes run with the node role, and no other role can be given to a machine.",
            actions=["iam:PassRole"],
            resources=[node_role_arn],
            conditions={
                "StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]}
            },
        ),
        Statement(
            why="Karpenter makes an instance profile for each EC2NodeClass of this cluster.",
            actions=["iam:CreateInstanceProfile"],
            resources=profiles,
            conditions={**asked, "StringEquals": asked_equal},
        ),
        Statement(
            why="It keeps the marks of those profiles, and cannot move another cluster's to this one.",
            actions=["iam:TagInstanceProfile"],
            resources=profiles,
            conditions={
                "StringEquals": {**there["StringEquals"], **asked_equal},
                "StringLike": {**there["StringLike"], **asked["StringLike"]},
            },
        ),
        Statement(
            why="It puts the node role into its profiles and removes them with their EC2NodeClass.",
            actions=[
                "iam:AddRoleToInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
                "iam:DeleteInstanceProfile",
            ],
            resources=profiles,
            conditions=there,
        ),
    ]


def _cluster_discovery(scope: AwsScope) -> list[Statement]:
    return [
        Statement(
            why="New nodes are told the cluster's service range, which only the cluster knows.",
            actions=["eks:DescribeCluster"],
            resources=[scope.arn("eks", f"cluster/{scope.cluster_name}")],
        )
    ]


def _interruption(queue_arn: pulumi.Input[str]) -> list[Statement]:
    return [
        Statement(
            why="Karpenter drains a node when the queue says that AWS is about to take it.",
            actions=["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"],
            resources=[queue_arn],
        )
    ]


def _resource_discovery(scope: AwsScope) -> list[Statement]:
    return [
        Statement(
            why="Choosing and watching machines means reading what the region has; EC2 cannot narrow such "
            "reads to resources.",
            actions=[
                "ec2:DescribeCapacityReservations",
                "ec2:DescribeImages",
                "ec2:DescribeInstances",
                "ec2:DescribeInstanceStatus",
                "ec2:DescribeInstanceTypeOfferings",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplates",
                "ec2:DescribePlacementGroups",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSpotPriceHistory",
                "ec2:DescribeSubnets",
            ],
            resources=["*"],
            conditions={"StringEquals": {"aws:RequestedRegion": scope.region}},
        ),
        Statement(
            why="AWS publishes the ids of node images as public parameters.",
            actions=["ssm:GetParameter"],
            resources=[scope.arn("ssm", "parameter/aws/service/*", account_id="")],
        ),
        Statement(
            why="The cheapest machine that fits is chosen by price; the price list is in no account.",
            actions=["pricing:GetProducts"],
            resources=["*"],
        ),
        Statement(
            why="An EC2NodeClass that is deleted looks for its instance profiles, and without this it never "
            "goes away (https://github.com/aws/karpenter-provider-aws/issues/9185).",
            actions=["iam:ListInstanceProfiles"],
            resources=["*"],
        ),
        Statement(
            why="An instance profile that exists is used again instead of made again.",
            actions=["iam:GetInstanceProfile"],
            resources=[scope.iam_arn("instance-profile/*")],
        ),
    ]


def _ec2(scope: AwsScope, kinds: Sequence[str]) -> list[str]:
    return [scope.arn("ec2", f"{kind}/*") for kind in kinds]


def _of_a_node(scope: AwsScope) -> Conditions:
    """The resource is one that Karpenter made for a node of this cluster."""
    return {
        "StringEquals": {f"aws:ResourceTag/{scope.owned_tag}": "owned"},
        "StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"},
    }


def _marked_as_a_node(scope: AwsScope) -> Conditions:
    """The request marks what it makes as made for a node of this cluster."""
    return {
        "StringEquals": {
            f"aws:RequestTag/{scope.owned_tag}": "owned",
            "aws:RequestTag/eks:eks-cluster-name": scope.cluster_name,
        },
        "StringLike": {"aws:RequestTag/karpenter.sh/nodepool": "*"},
    }


def _profile_tags(scope: AwsScope, side: str) -> Conditions:
    """The profile, by its tags (`aws:ResourceTag`) or the request's, is of a node class of this cluster."""
    return {
        "StringEquals": {
            f"{side}/{scope.owned_tag}": "owned",
            f"{side}/topology.kubernetes.io/region": scope.region,
        },
        "StringLike": {f"{side}/karpenter.k8s.aws/ec2nodeclass": "*"},
    }
