"""What AWS says about machines reaches Karpenter's queue, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

from infra.interruption import EVENTS, queue_policy

QUEUE = "arn:aws:sqs:us-west-2:123456789012:interruption"
RULES = [f"arn:aws:events:us-west-2:123456789012:rule/{kind}" for kind in EVENTS]


async def statements() -> list[dict[str, Any]]:
    document = await queue_policy(QUEUE, RULES, "123456789012").future()
    return json.loads(document or "")["Statement"]


def test_patterns_have_the_keys_of_events() -> None:
    # `detailType`, as SDKs write it, would match nothing, and without an error.
    for event in EVENTS.values():
        assert json.loads(event.pattern) == {"source": [event.source], "detail-type": [event.detail_type]}


def test_karpenter_hears_of_everything_that_takes_a_machine() -> None:
    assert {(event.source, event.detail_type) for event in EVENTS.values()} == {
        ("aws.health", "AWS Health Event"),
        ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
        ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
        ("aws.ec2", "EC2 Instance State-change Notification"),
        ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
    }


async def test_services_send_for_the_rules_and_for_the_account_only() -> None:
    allowed = [statement for statement in await statements() if statement["Effect"] == "Allow"]
    assert {statement["Action"] for statement in allowed} == {"sqs:SendMessage"}
    assert {statement["Resource"] for statement in allowed} == {QUEUE}
    assert {statement["Principal"]["Service"]: statement["Condition"] for statement in allowed} == {
        "events.amazonaws.com": {"ArnEquals": {"aws:SourceArn": RULES}},
        "sqs.amazonaws.com": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
    }


async def test_nobody_uses_the_queue_without_tls() -> None:
    (denied,) = [statement for statement in await statements() if statement["Effect"] == "Deny"]
    assert denied == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": QUEUE,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
