"""IAM policy documents whose every statement says why it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

# Conditions: operator -> key -> value or values, as in the policy language.
Conditions = Mapping[str, Mapping[str, pulumi.Input[str] | Sequence[pulumi.Input[str]]]]


@dataclass(frozen=True)
class Statement:
    """One permission, and the reason for it, which is for readers and not part of the document.

    `actions` never holds a bare `*`; a service-wide wildcard such as `s3:*` is refused as well.
    """

    why: str
    actions: Sequence[str]
    resources: Sequence[pulumi.Input[str]]
    conditions: Conditions = field(default_factory=dict[str, Mapping[str, str]])

    def __post_init__(self) -> None:
        for action in self.actions:
            if action.endswith("*"):
                raise ValueError(f"action {action!r} grants more than a statement can give a reason for")


def allow(*statements: Statement) -> pulumi.Output[str]:
    """A policy document that allows the statements and nothing else."""
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": list(statement.actions),
                    "Resource": list(statement.resources),
                    **({"Condition": dict(statement.conditions)} if statement.conditions else {}),
                }
                for statement in statements
            ],
        }
    )


def assumed_by_service(*services: str) -> str:
    """A trust policy for AWS services, for example `ec2.amazonaws.com`."""
    return _trust(services, ["sts:AssumeRole"])


# EKS Pod Identity hands credentials to pods through this service
# (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html).
def assumed_by_pods() -> str:
    """A trust policy for EKS Pod Identity, whose agent also tags the session."""
    return _trust(["pods.eks.amazonaws.com"], ["sts:AssumeRole", "sts:TagSession"])


def _trust(services: Sequence[str], actions: Sequence[str]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": list(actions)}
            ],
        }
    )
