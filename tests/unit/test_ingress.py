"""The way in from outside the cluster: TLS, API keys, models only; and what its controller may do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from infra.aws_scope import AwsScope
from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.iam import Statement, allow
from infra.ingress import chart_values
from infra.ingress_policy import load_balancer_policy
from infra.service_config import LlmService
from workloads.ingress import IngressPlan, plan_ingresses

CERTIFICATE = "arn:aws:acm:us-west-2:123456789012:certificate/0a1b"
CHAT = {
    "app": "llm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "accelerator": "cpu",
    "image": "i:1",
    "requestTimeoutSeconds": 120,
}
OWN = {"app": "bring-your-own", "importPath": "a.b:c", "accelerator": "cpu", "image": "i:1"}
ANNOTATION = "alb.ingress.kubernetes.io/"


def stack(
    *, enabled: bool = True, certificate: str | None = CERTIFICATE, **services: dict[str, Any]
) -> StackConfig:
    return StackConfig.model_validate(
        {
            "target": "aws",
            "aws": {
                "zones": ["us-west-2a", "us-west-2b"],
                "cluster": {"version": "1.34"},
                "nodePools": [{"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 1}],
                "ingress": {"enabled": enabled, "certificateArn": certificate, "host": "models.example.com"},
            },
            "services": services,
        }
    )


def plan(**changes: Any) -> IngressPlan:
    return plan_ingresses(stack(chat=CHAT | changes))["chat"]


def annotation(plan: IngressPlan, name: str) -> str:
    return plan.annotations[ANNOTATION + name]


def attributes(plan: IngressPlan, name: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in annotation(plan, name).split(","))


def test_a_model_without_keys_is_not_put_behind_a_load_balancer() -> None:
    open_model = CHAT | {"auth": "none"}
    with pytest.raises(ConfigError) as refused:
        plan_ingresses(stack(chat=CHAT, a=open_model, b=open_model))
    assert [finding.split(":")[0] for finding in refused.value.findings] == [
        "services.a.auth",
        "services.b.auth",
    ]
    assert "say auth: api-keys, or aws.ingress.enabled: false" in refused.value.findings[0]


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (None, "there is no ingress without TLS; add certificateArn and host"),
        (
            CERTIFICATE.replace("us-west-2", "us-east-1"),
            "of region us-east-1, and a load balancer in us-west-2 cannot use it",
        ),
    ],
)
def test_there_is_no_way_in_without_a_certificate_that_works(certificate: str | None, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stack(certificate=certificate, chat=CHAT)


def test_there_is_no_way_in_unless_the_stack_says_so() -> None:
    assert plan_ingresses(stack(enabled=False, chat=CHAT, open=CHAT | {"auth": "none"})) == {}


def test_services_of_ones_own_stay_inside() -> None:
    assert list(plan_ingresses(stack(chat=CHAT, own=OWN))) == ["chat"]


def test_requests_go_to_the_workers_and_to_nothing_else() -> None:
    (rule,) = plan().spec["rules"]
    assert rule["host"] == "chat.models.example.com"
    (path,) = rule["http"]["paths"]
    assert path["backend"] == {"service": {"name": "chat-serve-svc", "port": {"number": 8000}}}
    assert "default_backend" not in plan().spec


def test_the_load_balancer_is_internal_and_speaks_tls_only() -> None:
    assert annotation(plan(), "scheme") == "internal"
    assert json.loads(annotation(plan(), "listen-ports")) == [{"HTTPS": 443}]
    assert annotation(plan(), "certificate-arn") == CERTIFICATE
    assert annotation(plan(), "ssl-policy").startswith("ELBSecurityPolicy-TLS13-1-2-")
    assert plan().spec["ingress_class_name"] == "alb"


def test_health_is_asked_of_the_proxy_which_wants_no_key() -> None:
    assert annotation(plan(), "healthcheck-path") == "/-/healthz"


def longest_request_s() -> int:
    (bound,) = (
        entry.le
        for entry in LlmService.model_fields["request_timeout_seconds"].metadata
        if hasattr(entry, "le")
    )
    return bound


@pytest.mark.parametrize("request_timeout_s", [120, longest_request_s()])
def test_the_load_balancer_waits_longer_than_the_longest_request(request_timeout_s: int) -> None:
    patient = plan(requestTimeoutSeconds=request_timeout_s)
    idle_s = int(attributes(patient, "load-balancer-attributes")["idle_timeout.timeout_seconds"])
    drain_s = int(attributes(patient, "target-group-attributes")["deregistration_delay.timeout_seconds"])
    # Serve's own proxy waits 15 s longer than the app.
    assert request_timeout_s + 15 < idle_s <= 4000
    assert request_timeout_s <= drain_s <= 3600


def test_the_controller_is_told_where_it_is_and_leaves_services_alone() -> None:
    values = chart_values("neuron-serve", "vpc-1", "us-west-2", {"project": "p"})
    assert (values["clusterName"], values["region"], values["vpcId"]) == (
        "neuron-serve",
        "us-west-2",
        "vpc-1",
    )
    assert values["enableServiceMutatorWebhook"] is False
    assert values["controllerConfig"]["featureGates"]["EnableServiceController"] is False
    assert values["defaultTags"] == {"project": "p"}


def policy() -> list[Statement]:
    scope = AwsScope("aws", "us-west-2", "123456789012", "neuron-serve")
    return load_balancer_policy(scope, vpc_id="vpc-1", node_security_group_id="sg-1")


async def resources(statement: Statement) -> list[str]:
    document = json.loads(await allow(statement).future() or "")
    return document["Statement"][0]["Resource"]


async def test_every_permission_of_the_controller_says_why() -> None:
    for statement in policy():
        assert statement.why.endswith("."), statement.actions
        assert len(statement.why.split()) >= 5, statement.actions
        assert all(action.split(":")[1].isalpha() for action in statement.actions)


async def test_the_controller_changes_nothing_outside_its_account_and_region() -> None:
    for statement in policy():
        for resource in await resources(statement):
            if resource == "*":
                verbs = [action.split(":")[1] for action in statement.actions]
                assert all(verb.startswith(("Describe", "Get")) for verb in verbs)
            else:
                _, _, service, region, account, _ = resource.split(":", 5)
                assert (region, account) == ("" if service == "iam" else "us-west-2", "123456789012")


@pytest.mark.parametrize(
    "action",
    [
        "elasticloadbalancing:DeleteLoadBalancer",
        "elasticloadbalancing:DeleteTargetGroup",
        "elasticloadbalancing:SetSecurityGroups",
        "ec2:DeleteSecurityGroup",
    ],
)
async def test_the_controller_deletes_what_this_cluster_made(action: str) -> None:
    (statement,) = [statement for statement in policy() if action in statement.actions]
    assert statement.conditions["StringEquals"] == {"aws:ResourceTag/elbv2.k8s.aws/cluster": "neuron-serve"}


async def test_of_groups_that_others_made_only_the_nodes_let_load_balancers_in() -> None:
    (statement,) = [
        statement
        for statement in policy()
        if "ec2:AuthorizeSecurityGroupIngress" in statement.actions and not statement.conditions
    ]
    assert await resources(statement) == [
        "arn:aws:ec2:us-west-2:123456789012:security-group/sg-1",
        "arn:aws:ec2:us-west-2:123456789012:security-group-rule/*",
    ]


async def test_network_load_balancers_are_out_of_reach() -> None:
    for statement in policy():
        assert not any("/net/" in resource for resource in await resources(statement))
