"""What the AWS Load Balancer Controller may do.

Translated from the policy that the project publishes for v3.5.0, with these differences
(https://github.com/kubernetes-sigs/aws-load-balancer-controller/blob/v3.5.0/docs/install/iam_policy.json):

- What the controller makes must have this cluster's tag, where the policy asks for any cluster's.
- Security groups are looked for in the cluster's VPC only, which the action can be narrowed to.
- Application load balancers only, in this region, account and VPC.
- Without the services that are switched off here: WAF, Shield, Cognito, certificates of IAM.
"""

from __future__ import annotations

import pulumi

from infra.aws_scope import AwsScope
from infra.iam import Conditions, Statement

_CLUSTER_TAG = "elbv2.k8s.aws/cluster"


def load_balancer_policy(
    scope: AwsScope, *, vpc_id: pulumi.Input[str], node_security_group_id: pulumi.Input[str]
) -> list[Statement]:
    """Statements of the controller's one policy."""
    return [
        *_discovery(scope),
        *_security_groups(scope, vpc_id, node_security_group_id),
        *_load_balancers(scope),
        *_listeners(scope),
    ]


def _discovery(scope: AwsScope) -> list[Statement]:
    service = "elasticloadbalancing.amazonaws.com"
    return [
        Statement(
            why="The first load balancer of an account makes the role that load balancing works with.",
            actions=["iam:CreateServiceLinkedRole"],
            resources=[scope.iam_arn(f"role/aws-service-role/{service}/*")],
            conditions={"StringEquals": {"iam:AWSServiceName": service}},
        ),
        Statement(
            why="What is there is compared with what Ingress objects ask for; these reads cannot be narrowed "
            "to resources.",
            actions=[
                "ec2:DescribeAccountAttributes",
                "ec2:DescribeAvailabilityZones",
                "ec2:DescribeInstances",
                "ec2:DescribeInternetGateways",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeRouteTables",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeTags",
                "ec2:DescribeVpcPeeringConnections",
                "ec2:DescribeVpcs",
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
            ],
            resources=["*"],
            conditions={"StringEquals": {"aws:RequestedRegion": scope.region}},
        ),
    ]


def _security_groups(
    scope: AwsScope, vpc_id: pulumi.Input[str], node_security_group_id: pulumi.Input[str]
) -> list[Statement]:
    groups = scope.arn("ec2", "security-group/*")
    rules = scope.arn("ec2", "security-group-rule/*")
    return [
        Statement(
            why="The pods' group lets the load balancers in while they are there.",
            actions=["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
            resources=[
                pulumi.Output.concat(scope.arn("ec2", "security-group/"), node_security_group_id),
                rules,
            ],
        ),
        Statement(
            why="The groups that are there are looked for in the cluster's VPC.",
            actions=["ec2:GetSecurityGroupsForVpc"],
            resources=[pulumi.Output.concat(scope.arn("ec2", "vpc/"), vpc_id)],
        ),
        Statement(
            why="Load balancers get groups of their own in the cluster's VPC.",
            actions=["ec2:CreateSecurityGroup"],
            resources=[groups, pulumi.Output.concat(scope.arn("ec2", "vpc/"), vpc_id)],
        ),
        Statement(
            why="Such a group is marked as the cluster's by the call that makes it.",
            actions=["ec2:CreateTags"],
            resources=[groups],
            conditions={
                "StringEquals": {
                    "ec2:CreateAction": "CreateSecurityGroup",
                    f"aws:RequestTag/{_CLUSTER_TAG}": scope.cluster_name,
                }
            },
        ),
        Statement(
            why="Its other tags follow the stack's; the mark itself stays.",
            actions=["ec2:CreateTags", "ec2:DeleteTags"],
            resources=[groups],
            conditions=_of_the_cluster_and_stays_so(scope),
        ),
        Statement(
            why="Rules of those groups change with the Ingress objects, and the groups go with the last one.",
            actions=[
                "ec2:AuthorizeSecurityGroupIngress",
                "ec2:RevokeSecurityGroupIngress",
                "ec2:DeleteSecurityGroup",
            ],
            resources=[groups],
            conditions=_of_the_cluster(scope),
        ),
    ]


def _load_balancers(scope: AwsScope) -> list[Statement]:
    made = [
        scope.arn("elasticloadbalancing", "loadbalancer/app/*/*"),
        scope.arn("elasticloadbalancing", "targetgroup/*/*"),
    ]
    return [
        Statement(
            why="An Ingress is a load balancer and a target group, marked as the cluster's from the start.",
            actions=[
                "elasticloadbalancing:CreateLoadBalancer",
                "elasticloadbalancing:CreateTargetGroup",
            ],
            resources=made,
            conditions={"StringEquals": {f"aws:RequestTag/{_CLUSTER_TAG}": scope.cluster_name}},
        ),
        Statement(
            why="That mark comes with the call that makes them.",
            actions=["elasticloadbalancing:AddTags"],
            resources=made,
            conditions={
                "StringEquals": {
                    "elasticloadbalancing:CreateAction": ["CreateTargetGroup", "CreateLoadBalancer"],
                    f"aws:RequestTag/{_CLUSTER_TAG}": scope.cluster_name,
                }
            },
        ),
        Statement(
            why="Their other tags follow the stack's; the mark itself stays.",
            actions=["elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"],
            resources=made,
            conditions=_of_the_cluster_and_stays_so(scope),
        ),
        Statement(
            why="They are changed with their Ingress and deleted with it, and no other cluster's are.",
            actions=[
                "elasticloadbalancing:DeleteLoadBalancer",
                "elasticloadbalancing:DeleteTargetGroup",
                "elasticloadbalancing:ModifyCapacityReservation",
                "elasticloadbalancing:ModifyLoadBalancerAttributes",
                "elasticloadbalancing:ModifyTargetGroup",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
                "elasticloadbalancing:SetIpAddressType",
                "elasticloadbalancing:SetSecurityGroups",
                "elasticloadbalancing:SetSubnets",
            ],
            resources=made,
            conditions=_of_the_cluster(scope),
        ),
        Statement(
            why="Pods come into their target group when they are ready, and leave it before they go.",
            actions=[
                "elasticloadbalancing:DeregisterTargets",
                "elasticloadbalancing:RegisterTargets",
            ],
            resources=[scope.arn("elasticloadbalancing", "targetgroup/*/*")],
        ),
    ]


def _listeners(scope: AwsScope) -> list[Statement]:
    listeners = scope.arn("elasticloadbalancing", "listener/app/*/*/*")
    rules = scope.arn("elasticloadbalancing", "listener-rule/app/*/*/*")
    return [
        Statement(
            why="A load balancer listens on the port of its Ingress and sends hosts to their target group.",
            actions=[
                "elasticloadbalancing:AddListenerCertificates",
                "elasticloadbalancing:CreateListener",
                "elasticloadbalancing:CreateRule",
                "elasticloadbalancing:DeleteListener",
                "elasticloadbalancing:DeleteRule",
                "elasticloadbalancing:ModifyListener",
                "elasticloadbalancing:ModifyRule",
                "elasticloadbalancing:RemoveListenerCertificates",
                "elasticloadbalancing:SetRulePriorities",
            ],
            resources=[scope.arn("elasticloadbalancing", "loadbalancer/app/*/*"), listeners, rules],
        ),
        Statement(
            why="Attributes of a listener are compared with its Ingress and set.",
            actions=["elasticloadbalancing:ModifyListenerAttributes"],
            resources=[listeners],
            conditions=_of_the_cluster(scope),
        ),
        Statement(
            why="Listeners and their rules have the stack's tags as well.",
            actions=["elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"],
            resources=[listeners, rules],
        ),
    ]


def _of_the_cluster(scope: AwsScope) -> Conditions:
    return {"StringEquals": {f"aws:ResourceTag/{_CLUSTER_TAG}": scope.cluster_name}}


def _of_the_cluster_and_stays_so(scope: AwsScope) -> Conditions:
    return {**_of_the_cluster(scope), "Null": {f"aws:RequestTag/{_CLUSTER_TAG}": "true"}}
