"""What AWS says about machines that it is about to take away, on its way to Karpenter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

# A spot machine goes two minutes after its warning; what is older than this is of no use.
_RETENTION_S = 300


@dataclass(frozen=True)
class Event:
    """A kind of EventBridge event, by the service that sends it and what that service calls it."""

    source: str
    detail_type: str

    @property
    def pattern(self) -> str:
        """The event pattern of a rule. Its keys are the event's own, and EventBridge ignores any other."""
        return json.dumps({"source": [self.source], "detail-type": [self.detail_type]})


# Karpenter 1.14.1,
# https://github.com/aws/karpenter-provider-aws/blob/v1.14.1/website/content/en/preview/getting-started/getting-started-with-karpenter/cloudformation.yaml
EVENTS = {
    "scheduled-change": Event("aws.health", "AWS Health Event"),
    "spot-interruption": Event("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": Event("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state-change": Event("aws.ec2", "EC2 Instance State-change Notification"),
    "capacity-reservation": Event("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
}


def queue_policy(
    queue_arn: pulumi.Input[str], rule_arns: Sequence[pulumi.Input[str]], account_id: str
) -> pulumi.Output[str]:
    """Lets the rules send to the queue, and nobody use it without TLS.

    A forged event would make Karpenter drain a healthy node, so the services send for these rules and this
    account only.
    """
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": queue_arn}
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    **send,
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Condition": {"ArnEquals": {"aws:SourceArn": list(rule_arns)}},
                },
                {
                    **send,
                    "Principal": {"Service": "sqs.amazonaws.com"},
                    "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
                },
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "sqs:*",
                    "Resource": queue_arn,
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            ],
        }
    )


@dataclass(frozen=True)
class InterruptionQueueArgs:
    """`account_id` is the account of the rules; `tags` go on everything."""

    account_id: str
    tags: Mapping[str, str]


class InterruptionQueue(pulumi.ComponentResource):
    """The queue that Karpenter reads, and what fills it:

    - SQS queue, encrypted with a key of SQS
    - a rule and a target of EventBridge for each of `EVENTS`
    - queue policy
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(
        self, name: str, args: InterruptionQueueArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("neuron-serve:infra:InterruptionQueue", name, None, opts)
        self._name = name
        queue = aws.sqs.Queue(
            name,
            message_retention_seconds=_RETENTION_S,
            sqs_managed_sse_enabled=True,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        rule_arns = [self._rule(kind, event, queue, args.tags) for kind, event in EVENTS.items()]
        aws.sqs.QueuePolicy(
            f"{name}-policy",
            queue_url=queue.url,
            policy=queue_policy(queue.arn, rule_arns, args.account_id),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = queue.name
        self.arn = queue.arn
        self.register_outputs({"name": self.name, "arn": self.arn})

    def _rule(
        self, kind: str, event: Event, queue: aws.sqs.Queue, tags: Mapping[str, str]
    ) -> pulumi.Output[str]:
        rule = aws.cloudwatch.EventRule(
            f"{self._name}-{kind}",
            description=f"Tells Karpenter: {event.detail_type}",
            event_pattern=event.pattern,
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.cloudwatch.EventTarget(
            f"{self._name}-{kind}",
            rule=rule.name,
            arn=queue.arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return rule.arn
