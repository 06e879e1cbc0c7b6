"""What only AWS itself can see, and whom it tells: CloudWatch alarms beside the rules of Prometheus.

Each alarm's description ends with its section in docs/runbooks.md, which a test holds to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra import monitoring_config
from infra.alerts import runbook_url
from infra.aws_scope import AwsScope, current_scope
from infra.encryption_key import encryption_key
from infra.gcs_store import GcsStore

_DAY_S = 86400
# ACM renews what it has issued earlier than this, and imported ones never. Its own events about
# public ones begin here.
# https://docs.aws.amazon.com/acm/latest/userguide/supported-events.html (2026-11)
_CERTIFICATE_MIN_DAYS = 30
# An alarm's window slides, so every change of a node's role lies within one of them for minutes.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html
_ROLE_WINDOW_S = 300
# Every node of a replication group is a cache cluster with this one node.
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CloudWatchMetrics.html
_CACHE_NODE = "0001"
# What the account's own administrators may do with the key, as their IAM policies say; nobody else uses it.
_KEY_ADMINISTRATION = (
    "kms:CancelKeyDeletion",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateKeyDescription",
)


@dataclass(frozen=True)
class AlarmsArgs:
    """`store`, of `store_nodes` nodes, and `certificate_arn` are what is watched, None where there is none.

    There is at least one of the two.
    """

    config: monitoring_config.Alarms
    cluster_name: str
    store: GcsStore | None
    store_nodes: int
    certificate_arn: str | None
    tags: Mapping[str, str]


class Alarms(pulumi.ComponentResource):
    """Alarms, and the topic through which they reach people. Its resources:

    - KMS key that CloudWatch may use for this account's alarms: with AWS's own key it could not send
      (https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html)
    - SNS topic and its policy: the alarms of this stack publish, nobody else
    - a subscription for each address; who gets mail has to confirm it
    - a metric alarm each for a failover of ElastiCache and for the load balancer's certificate

    ElastiCache's own notifications are no way to learn of a failover: they reach neither EventBridge
    (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/self-designed-metrics-events.valkey-and-redis.md)
    nor an encrypted topic (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ElastiCacheSNS.html).
    """

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Alarms", name, None, opts)
        self._name = name
        self._tags = {**args.tags, "Name": f"{args.cluster_name}-alarms"}
        self._own = pulumi.ResourceOptions(parent=self)
        scope = current_scope(args.cluster_name, self)
        self._topic = self._encrypted_topic(key_policy(scope))
        for address in args.config.notify:
            self._subscription(address)
        alarms: list[aws.cloudwatch.MetricAlarm] = []
        if args.store:
            alarms.append(self._failover(args.store, args.store_nodes))
        if args.certificate_arn:
            alarms.append(self._certificate(args.certificate_arn))
        aws.sns.TopicPolicy(
            name,
            arn=self._topic.arn,
            policy=topic_policy(self._topic.arn, [alarm.arn for alarm in alarms], scope.account_id),
            opts=self._own,
        )
        self.register_outputs({})

    def _encrypted_topic(self, policy: pulumi.Input[str]) -> aws.sns.Topic:
        key = encryption_key(
            self._name,
            description="Alarms on their way",
            policy=policy,
            tags=self._tags,
            opts=self._own,
        )
        return aws.sns.Topic(self._name, kms_master_key_id=key.arn, tags=self._tags, opts=self._own)

    def _subscription(self, address: str) -> None:
        aws.sns.TopicSubscription(
            f"{self._name}-{address}",
            topic=self._topic.arn,
            protocol="https" if address.startswith("https://") else "email",
            endpoint=address,
            opts=self._own,
        )

    def _failover(self, store: GcsStore, nodes: int) -> aws.cloudwatch.MetricAlarm:
        """Another node is the primary now. `IsMaster` is 1 on the primary and 0 elsewhere, once a minute.

        https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
        """
        return self._alarm(
            "store-failover",
            summary="Another node of the store has become the primary",
            evaluation_periods=1,
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            metric_queries=role_changes([store.node(index) for index in range(nodes)]),
        )

    def _certificate(self, arn: str) -> aws.cloudwatch.MetricAlarm:
        """`DaysToExpiry` comes twice a day, and no more once the certificate has expired.

        https://docs.aws.amazon.com/acm/latest/userguide/cloudwatch-metrics.html
        """
        return self._alarm(
            "certificate-age",
            summary=f"The load balancer's certificate expires within {_CERTIFICATE_MIN_DAYS} days",
            namespace="AWS/CertificateManager",
            metric_name="DaysToExpiry",
            dimensions={"CertificateArn": arn},
            statistic="Minimum",
            period=_DAY_S,
            evaluation_periods=1,
            comparison_operator="LessThanThreshold",
            threshold=_CERTIFICATE_MIN_DAYS,
        )

    def _alarm(self, runbook: str, *, summary: str, **condition: Any) -> aws.cloudwatch.MetricAlarm:
        return aws.cloudwatch.MetricAlarm(
            f"{self._name}-{runbook}",
            alarm_description=f"{summary}. {runbook_url(runbook)}",
            alarm_actions=[self._topic.arn],
            # Silence is no news, good or bad.
            treat_missing_data="ignore",
            tags=self._tags,
            opts=self._own,
            **condition,
        )


def role_changes(
    nodes: Sequence[pulumi.Input[str]],
) -> list[aws.cloudwatch.MetricAlarmMetricQueryArgs]:
    """How many nodes were the primary for a part of the window only, by the ids of their cache clusters.

    The mean of ones and zeros is a fraction then. A node that says nothing has not changed.
    """
    ids = [f"node{index}" for index in range(len(nodes))]
    changed = " + ".join(f"CEIL(FILL({id_}, 0)) - FLOOR(FILL({id_}, 0))" for id_ in ids)
    metrics = [
        aws.cloudwatch.MetricAlarmMetricQueryArgs(
            id=id_,
            metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
                namespace="AWS/ElastiCache",
                metric_name="IsMaster",
                dimensions={"CacheClusterId": node, "CacheNodeId": _CACHE_NODE},
                stat="Average",
                period=_ROLE_WINDOW_S,
            ),
        )
        for id_, node in zip(ids, nodes, strict=True)
    ]
    watched = aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id="changed", expression=changed, label="Nodes whose role has changed", return_data=True
    )
    return [watched, *metrics]


def topic_policy(
    topic_arn: pulumi.Input[str], alarm_arns: Sequence[pulumi.Input[str]], account_id: str
) -> pulumi.Output[str]:
    """Lets the alarms publish to the topic, and nobody without TLS."""
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "cloudwatch.amazonaws.com"},
                    "Action": "sns:Publish",
                    "Resource": topic_arn,
                    "Condition": {
                        "ArnEquals": {"aws:SourceArn": list(alarm_arns)},
                        "StringEquals": {"aws:SourceAccount": account_id},
                    },
                },
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "sns:Publish",
                    "Resource": topic_arn,
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            ],
        }
    )


def key_policy(scope: AwsScope) -> pulumi.Output[str]:
    """Lets CloudWatch encrypt for alarms of this account, and the account's administrators keep the key.

    In the policy of a key, `*` as the resource is that key.
    """
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": scope.iam_arn("root")},
                    "Action": list(_KEY_ADMINISTRATION),
                    "Resource": "*",
                },
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "cloudwatch.amazonaws.com"},
                    "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                    "Resource": "*",
                    "Condition": {
                        "StringEquals": {"aws:SourceAccount": scope.account_id},
                        "ArnLike": {"aws:SourceArn": scope.arn("cloudwatch", "alarm:*")},
                    },
                },
            ],
        }
    )
