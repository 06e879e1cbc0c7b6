"""Alarms of AWS in the recorded graph: what they watch, who is told, who may use their topic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from offline.delete_order import dependencies
from offline.errors import OfflineError
from offline.graph import Graph, is_unknown
from offline.recorder import evaluate
from tests.graph.aws_platform import aws_platform
from tests.graph.conftest import Evaluated
from tests.graph.stacks import stack_file

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
TOPIC = "aws:sns/topic:Topic"
RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks.md"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return aws_platform()


def statements(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["Statement"]


def test_every_alarm_reaches_the_topic_and_names_its_runbook(graph: Graph) -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOKS.read_text(), re.MULTILINE)
    sections = {heading.lower().replace(" ", "-") for heading in headings}
    topic = graph.one(TOPIC)
    assert len(graph.by_type(ALARM)) == 2
    for alarm in graph.by_type(ALARM):
        assert alarm.property_dependencies["alarmActions"] == [topic.urn]
        assert alarm.inputs["alarmDescription"].rpartition("#")[2] in sections


def test_a_failover_is_seen_on_every_node_of_the_store(graph: Graph) -> None:
    group = graph.one("aws:elasticache/replicationGroup:ReplicationGroup")
    alarm = graph.one(ALARM, "alarms-store-failover")
    assert group.urn in dependencies(graph)[alarm.urn]
    watched, *metrics = alarm.inputs["metricQueries"]
    assert len(metrics) == group.inputs["numCacheClusters"]
    assert set(re.findall(r"node\d", watched["expression"])) == {metric["id"] for metric in metrics}
    for metric in metrics:
        assert is_unknown(metric["metric"]["dimensions"]["CacheClusterId"])
        assert metric["metric"]["metricName"] == "IsMaster"
        assert "returnData" not in metric


def test_the_certificate_of_the_load_balancer_is_watched(graph: Graph) -> None:
    alarm = graph.one(ALARM, "alarms-certificate-age").inputs
    ingress = graph.one("kubernetes:networking.k8s.io/v1:Ingress").inputs["metadata"]["annotations"]
    arn = ingress["alb.ingress.kubernetes.io/certificate-arn"]
    assert alarm["dimensions"] == {"CertificateArn": arn}
    assert (alarm["namespace"], alarm["metricName"]) == ("AWS/CertificateManager", "DaysToExpiry")
    assert (alarm["comparisonOperator"], alarm["threshold"]) == ("LessThanThreshold", 30)


def test_everybody_who_is_to_be_notified_is_subscribed(graph: Graph) -> None:
    subscriptions = graph.by_type("aws:sns/topicSubscription:TopicSubscription")
    assert {(each.inputs["protocol"], each.inputs["endpoint"]) for each in subscriptions} == {
        ("email", "oncall@example.com"),
        ("https", "https://events.example.com/alarm"),
    }


def test_only_the_stacks_alarms_publish_and_the_topic_is_encrypted(graph: Graph) -> None:
    key, topic = graph.one("aws:kms/key:Key", "alarms"), graph.one(TOPIC)
    assert topic.property_dependencies["kmsMasterKeyId"] == [key.urn]
    policy = graph.one("aws:sns/topicPolicy:TopicPolicy")
    publish, denial = statements(policy.inputs["policy"])
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert publish["Action"] == "sns:Publish"
    assert len(publish["Condition"]["ArnEquals"]["aws:SourceArn"]) == 2
    assert denial["Effect"] == "Deny"
    (used,) = [each for each in statements(key.inputs["policy"]) if "Service" in each["Principal"]]
    assert used["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    assert used["Condition"]["ArnLike"]["aws:SourceArn"].endswith(":123456789012:alarm:*")


def test_without_anybody_to_notify_there_are_no_alarms(evaluated: Evaluated) -> None:
    for stack in ("dev", "prod"):
        assert not evaluated(stack).by_type(ALARM)
        assert not evaluated(stack).by_type(TOPIC)


def test_a_store_alone_is_watched_alone() -> None:
    aws = stack_file("dev")["neuron-serve:aws"] | {"alarms": {"notify": ["oncall@example.com"]}}
    graph = evaluate("dev", config_overrides={"aws": aws})
    assert [alarm.name for alarm in graph.by_type(ALARM)] == ["alarms-store-failover"]
    with pytest.raises(OfflineError, match=r"aws.alarms.notify: has no effect"):
        evaluate("dev", config_overrides={"aws": aws, "gcsStore": {"kind": "none"}})
