"""Every rule of the policy pack is broken here, and kept, as a graph and as Pulumi's analyzer see it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pulumi_policy import (
    PolicyResource,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
)
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policy import __main__ as pack
from policy.model import ENVIRONMENT_TAG, SECRET, UNKNOWN, Violation, from_analyzer, from_graph
from policy.rules import CONFIG_FILE, RULES, Enforcement, check, read_config

INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
CACHE = "aws:elasticache/replicationGroup:ReplicationGroup"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
RELEASE = "kubernetes:helm.sh/v3:Release"
NODE_CLASS = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
INGRESS = "kubernetes:networking.k8s.io/v1:Ingress"
SERVICE = "kubernetes:core/v1:Service"
BUCKET = "aws:s3/bucket:Bucket"
BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
UNKNOWN_VALUE = {"$unknown": True}
BLOCKED = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)


def recorded(
    type_: str, inputs: dict[str, Any], name: str = "it", **dependencies: list[str]
) -> dict[str, Any]:
    """A resource as a graph in JSON has it."""
    urn = f"urn:pulumi:prod::neuron-serve::{type_}::{name}"
    return {"type": type_, "name": name, "urn": urn, "inputs": inputs, "propertyDependencies": dependencies}


def broken(*resources: dict[str, Any], rule: str) -> list[Violation]:
    found = check([from_graph(resource) for resource in resources], {})
    return [violation for violation in found if violation.rule == rule]


def pod(**container: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "registry.example/app:1.0.0", **container}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def host_pod(**spec: Any) -> dict[str, Any]:
    inputs = pod()
    inputs["spec"]["template"]["spec"].update(spec)
    return inputs


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements)}), "role": "r"}


def allow(action: Any, resource: Any = "arn:aws:s3:::bucket/*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def volume(**ebs: Any) -> dict[str, Any]:
    return {"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": ebs}]}


def alb(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "annotations": {f"alb.ingress.kubernetes.io/{key}": text for key, text in annotations.items()}
        }
    }


BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("no-open-ingress", INGRESS_RULE, {"cidrIpv4": "0.0.0.0/0", "fromPort": 22, "toPort": 22}),
    ("no-open-ingress", INGRESS_RULE, {"cidrIpv6": "::/0", "ipProtocol": "-1"}),
    ("no-open-ingress", GROUP, {"ingress": [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 443, "toPort": 443}]}),
    (
        "no-open-ingress",
        "aws:ec2/securityGroupRule:SecurityGroupRule",
        {"type": "ingress", "ipv6CidrBlocks": ["::/0"], "fromPort": 1, "toPort": 2},
    ),
    (
        "private-kubernetes-api",
        "eks:index:Cluster",
        {"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]},
    ),
    ("private-kubernetes-api", "eks:index:Cluster", {"endpointPublicAccess": True}),
    ("private-kubernetes-api", "aws:eks/cluster:Cluster", {"vpcConfig": {}}),
    ("internal-load-balancers", INGRESS, alb(scheme="internet-facing")),
    ("internal-load-balancers", SERVICE, {"spec": {"type": "LoadBalancer"}}),
    ("internal-load-balancers", "aws:lb/loadBalancer:LoadBalancer", {"internal": False}),
    ("encrypted-volumes", "aws:ec2/launchTemplate:LaunchTemplate", volume(volumeSize=50)),
    ("encrypted-volumes", "aws:ec2/launchTemplate:LaunchTemplate", volume(encrypted="false")),
    ("encrypted-volumes", NODE_CLASS, {"spec": volume(encrypted=False)}),
    ("encrypted-volumes", "aws:ebs/volume:Volume", {"size": 10}),
    (
        "encrypted-volumes",
        "kubernetes:storage.k8s.io/v1:StorageClass",
        {"provisioner": "ebs.csi.aws.com", "parameters": {"type": "gp3"}},
    ),
    ("encrypted-services", CACHE, {"atRestEncryptionEnabled": False, "transitEncryptionEnabled": True}),
    ("encrypted-services", CACHE, {"atRestEncryptionEnabled": True}),
    ("encrypted-services", "eks:index:Cluster", {"endpointPublicAccess": False}),
    ("encrypted-services", "aws:eks/cluster:Cluster", {"vpcConfig": {"endpointPublicAccess": False}}),
    ("encrypted-services", "aws:sqs/queue:Queue", {"sqsManagedSseEnabled": False}),
    ("encrypted-services", "aws:sns/topic:Topic", {"displayName": "t"}),
    (
        "encrypted-services",
        "aws:ecr/repository:Repository",
        {"encryptionConfigurations": [{"encryptionType": "NONE"}]},
    ),
    ("encrypted-buckets", BUCKET, {"bucket": "b"}),
    ("private-buckets", BUCKET, {"bucket": "b"}),
    ("private-buckets", "aws:s3/bucketAcl:BucketAcl", {"acl": "public-read"}),
    ("no-plain-secrets", "kubernetes:core/v1:Secret", {"stringData": {"password": "hunter2"}}),
    ("no-plain-secrets", "kubernetes:core/v1:Secret", {"data": {"password": "aHVudGVyMg=="}}),
    ("no-plain-secrets", CACHE, {"authToken": "hunter2"}),
    ("no-plain-secrets", RELEASE, {"values": {"admin": {"adminPassword": "hunter2"}}}),
    ("no-wildcard-iam", ROLE_POLICY, policy(allow("*"))),
    ("no-wildcard-iam", ROLE_POLICY, policy(allow(["s3:GetObject", "s3:*"]))),
    ("no-wildcard-iam", ROLE_POLICY, policy(allow("s3:GetObject", "*"))),
    ("no-wildcard-iam", ROLE_POLICY, policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": "arn:x"})),
    (
        "no-wildcard-iam",
        ROLE_POLICY,
        policy({"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:x"}),
    ),
    ("no-wildcard-iam", "aws:s3/bucketPolicy:BucketPolicy", policy(allow("s3:GetObject", Principal="*"))),
    ("no-wildcard-iam", "aws:sns/topicPolicy:TopicPolicy", policy(allow("sns:Publish", Principal="*"))),
    (
        "no-wildcard-iam",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    ("pinned-versions", RELEASE, {"chart": "kuberay-operator"}),
    ("pinned-versions", RELEASE, {"version": "^1.7"}),
    ("pinned-versions", RELEASE, {"version": UNKNOWN_VALUE}),
    ("pinned-versions", "aws:eks/addon:Addon", {"addonVersion": UNKNOWN_VALUE}),
    ("pinned-versions", NODE_CLASS, {"spec": {"amiSelectorTerms": [{"alias": "al2023@latest"}]}}),
    ("pinned-versions", DEPLOYMENT, pod(image="registry.example:5000/app")),
    ("pinned-versions", DEPLOYMENT, pod(image="registry.example/app:latest")),
    ("unprivileged-pods", DEPLOYMENT, pod(securityContext={"privileged": True})),
    ("unprivileged-pods", DEPLOYMENT, host_pod(hostNetwork=True)),
    ("unprivileged-pods", DEPLOYMENT, host_pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
    (
        "unprivileged-pods",
        "kubernetes:ray.io/v1:RayService",
        {"spec": {"rayClusterConfig": {"workerGroupSpecs": [host_pod(hostPID=True)["spec"]]}}},
    ),
]
KEPT: list[tuple[str, str, dict[str, Any]]] = [
    ("no-open-ingress", INGRESS_RULE, {"cidrIpv4": "10.0.0.0/16", "fromPort": 443, "toPort": 443}),
    ("no-open-ingress", INGRESS_RULE, {"referencedSecurityGroupId": UNKNOWN_VALUE}),
    ("no-open-ingress", GROUP, {"egress": [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 0, "toPort": 0}]}),
    ("private-kubernetes-api", "eks:index:Cluster", {"endpointPublicAccess": False}),
    ("private-kubernetes-api", "eks:index:Cluster", {"publicAccessCidrs": ["198.51.100.0/24"]}),
    ("internal-load-balancers", INGRESS, alb(scheme="internal")),
    ("internal-load-balancers", SERVICE, {"spec": {"type": "ClusterIP"}}),
    ("encrypted-volumes", NODE_CLASS, {"spec": volume(encrypted=True)}),
    ("encrypted-volumes", "aws:ec2/launchTemplate:LaunchTemplate", {"blockDeviceMappings": UNKNOWN_VALUE}),
    ("encrypted-services", "eks:index:Cluster", {"encryptionConfigKeyArn": UNKNOWN_VALUE}),
    ("encrypted-services", "aws:sqs/queue:Queue", {"kmsMasterKeyId": "alias/mine"}),
    ("encrypted-services", "aws:sns/topic:Topic", {"kmsMasterKeyId": UNKNOWN_VALUE}),
    ("no-plain-secrets", "kubernetes:core/v1:Secret", {"data": {"$secret": {"password": None}}}),
    ("no-plain-secrets", CACHE, {"authToken": {"$secret": None}}),
    (
        "no-plain-secrets",
        DEPLOYMENT,
        {"spec": {"automountServiceAccountToken": False, "secretName": "api-keys"}},
    ),
    ("no-wildcard-iam", ROLE_POLICY, policy(allow(["ec2:DescribeSubnets", "pricing:GetProducts"], ["*"]))),
    (
        "no-wildcard-iam",
        "aws:sqs/queuePolicy:QueuePolicy",
        policy({"Effect": "Deny", "Principal": "*", "Action": "sqs:*"}),
    ),
    ("pinned-versions", RELEASE, {"version": "1.7.0"}),
    ("pinned-versions", "aws:eks/addon:Addon", {"addonVersion": "v1.22.3-eksbuild.1"}),
    ("pinned-versions", DEPLOYMENT, pod(image="registry.example/app@sha256:0123")),
    ("unprivileged-pods", DEPLOYMENT, pod(securityContext={"privileged": False})),
]


@pytest.mark.parametrize(("rule", "type_", "inputs"), BROKEN)
def test_a_broken_rule_is_reported(rule: str, type_: str, inputs: dict[str, Any]) -> None:
    violations = broken(recorded(type_, inputs), rule=rule)
    assert [violation.resource for violation in violations] == [f"{type_.rpartition(':')[2]} it"] * len(
        violations
    )
    assert violations


@pytest.mark.parametrize(("rule", "type_", "inputs"), KEPT)
def test_a_rule_that_is_kept_is_quiet(rule: str, type_: str, inputs: dict[str, Any]) -> None:
    assert broken(recorded(type_, inputs), rule=rule) == []


def test_every_rule_is_broken_by_a_test() -> None:
    assert {rule for rule, _, _ in BROKEN} == {rule.name for rule in RULES}


def test_every_rule_says_what_why_and_the_way_out() -> None:
    for rule in RULES:
        assert rule.description.endswith(".")
        assert rule.why.endswith(".")
        assert rule.way_out
        assert (rule.check is None) != (rule.check_stack is None)


@pytest.mark.parametrize("by", ["name", "dependency"])
def test_a_bucket_with_its_companions_is_private_and_encrypted(by: str) -> None:
    bucket = recorded(BUCKET, {"bucket": "b" if by == "name" else UNKNOWN_VALUE})
    of_bucket = {"bucket": [bucket["urn"]]} if by == "dependency" else {}
    name = {"bucket": "b" if by == "name" else UNKNOWN_VALUE}
    block = recorded(BLOCK, {**name, **BLOCKED}, "block", **of_bucket)
    encryption = recorded(ENCRYPTION, name, "encryption", **of_bucket)
    assert check([from_graph(resource) for resource in (bucket, block, encryption)], {}) == []


def test_half_a_public_access_block_is_reported() -> None:
    block = recorded(BLOCK, {"bucket": "b", **BLOCKED, "blockPublicPolicy": False}, "block")
    (violation,) = broken(recorded(BUCKET, {"bucket": "b"}), block, rule="private-buckets")
    assert violation.message == "public access is not blocked by blockPublicPolicy"
    assert violation.resource == "BucketPublicAccessBlock block"


def test_an_exempt_resource_is_left_out_in_its_stack_only() -> None:
    resources = [from_graph(recorded(DEPLOYMENT, host_pod(hostNetwork=True), "monitor"))]
    reason = "reads counters"
    assert check(resources, {"unprivileged-pods": Enforcement(exempt={"*/monitor": reason})}) == []
    assert check(resources, {"unprivileged-pods": Enforcement(exempt={"prod/*": reason})}) == []
    assert check(resources, {"unprivileged-pods": Enforcement(exempt={"dev/monitor": reason})}) != []
    assert check(resources, {"unprivileged-pods": Enforcement("disabled")}) == []


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"no-open-ingres": "mandatory"}, ("no rule 'no-open-ingres'", "no-open-ingress")),
        ({"no-open-ingress": "strict"}, ("no-open-ingress.enforcementLevel", "'strict'", "advisory")),
        ({"no-open-ingress": {"exempt": ["x"]}}, ("no-open-ingress.exempt", "reason")),
        ({"no-open-ingress": {"exempt": {"*/x": ""}}}, ("no-open-ingress.exempt", "reason")),
        (
            {"no-open-ingress": {"exemptEnvironments": {"dev": ""}}},
            ("no-open-ingress.exemptEnvironments", "reason"),
        ),
        ({"no-open-ingress": 3}, ("no-open-ingress", "3")),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, config: Any, parts: tuple[str, ...]) -> None:
    file = tmp_path / "policy-config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape(parts[0])) as refusal:
        read_config(file)
    for part in parts:
        assert part in str(refusal.value)


def test_the_configuration_of_the_project_is_one() -> None:
    assert all(enforcement.level == "mandatory" for enforcement in read_config(CONFIG_FILE).values())


def analyzed(
    type_: str, props: dict[str, Any], config: dict[str, Any] | None = None
) -> ResourceValidationArgs:
    """A resource as Pulumi's analyzer hands it over: its inputs raise for what is unknown."""
    urn = f"urn:pulumi:prod::neuron-serve::{type_}::it"
    options: Any = None
    return ResourceValidationArgs(type_, unknown_checking_proxy(props), urn, "it", options, None, config)


def _as_analyzed(value: Any) -> Any:
    if value == UNKNOWN_VALUE:
        return UNKNOWN_STRING_VALUE
    if isinstance(value, dict):
        return {key: _as_analyzed(entry) for key, entry in value.items()}
    return [_as_analyzed(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("rule", "type_", "inputs"),
    [
        case
        for case in BROKEN
        if case[0] in {policy.name for policy in pack.POLICIES} and "buckets" not in case[0]
    ],
)
def test_the_analyzer_reports_the_same(rule: str, type_: str, inputs: dict[str, Any]) -> None:
    (policy_,) = [policy for policy in pack.POLICIES if policy.name == rule]
    assert isinstance(policy_, ResourceValidationPolicy)
    reports: list[str] = []
    policy_.validate(analyzed(type_, _as_analyzed(inputs)), lambda message, _=None: reports.append(message))
    messages = [violation.message for violation in broken(recorded(type_, inputs), rule=rule)]
    assert [report.partition(". Way out: ")[0] for report in reports] == messages


def test_the_analyzer_knows_exemptions() -> None:
    (policy_,) = [policy for policy in pack.POLICIES if policy.name == "unprivileged-pods"]
    reports: list[str] = []
    args = analyzed(DEPLOYMENT, host_pod(hostNetwork=True), {"exempt": {"*/it": "a reason"}})
    policy_.validate(args, lambda message, _=None: reports.append(message))  # type: ignore[attr-defined]
    assert reports == []


@pytest.mark.parametrize(("environment", "reported"), [("dev", 0), ("prod", 1), (None, 1)])
def test_the_analyzer_reads_the_environment_from_the_tag(environment: str | None, reported: int) -> None:
    (policy_,) = [policy for policy in pack.POLICIES if policy.name == "pinned-versions"]
    tags = {ENVIRONMENT_TAG: environment} if environment else {"Name": "it"}
    config = {"exemptEnvironments": {"dev": "a reason"}}
    reports: list[str] = []
    args = analyzed("aws:eks/addon:Addon", {"addonVersion": UNKNOWN_STRING_VALUE, "tags": tags}, config)
    policy_.validate(args, lambda message, _=None: reports.append(message))  # type: ignore[attr-defined]
    assert len(reports) == reported


def test_machines_have_the_environment_of_their_class() -> None:
    inputs = {"spec": {"amiSelectorTerms": [{"alias": "al2023@latest"}], "tags": {ENVIRONMENT_TAG: "dev"}}}
    resources = [from_graph(recorded(NODE_CLASS, inputs))]
    of_dev = {"pinned-versions": Enforcement(exempt_environments={"dev": "a reason"})}
    assert check(resources, of_dev) == []
    assert [violation.rule for violation in check(resources, {})] == ["pinned-versions"]


def stack_resource(
    type_: str, props: dict[str, Any], name: str, **sources: list[PolicyResource]
) -> PolicyResource:
    urn = f"urn:pulumi:prod::neuron-serve::{type_}::{name}"
    options: Any = None
    return PolicyResource(type_, unknown_checking_proxy(props), urn, name, options, None, None, [], sources)


def test_the_analyzer_sees_which_block_belongs_to_which_bucket() -> None:
    (policy_,) = [policy for policy in pack.POLICIES if policy.name == "private-buckets"]
    reports: list[tuple[str, str | None]] = []
    first, second = (stack_resource(BUCKET, {"bucket": UNKNOWN_STRING_VALUE}, name) for name in ("a", "b"))
    block = stack_resource(BLOCK, {"bucket": UNKNOWN_STRING_VALUE, **BLOCKED}, "block", bucket=[first])
    args = StackValidationArgs([first, second, block])
    policy_.validate(args, lambda message, urn=None: reports.append((message, urn)))  # type: ignore[attr-defined]
    assert [urn for _, urn in reports] == [second.urn]


def test_the_analyzer_is_not_asked_what_it_cannot_know() -> None:
    assert {rule.name for rule in RULES} - {policy.name for policy in pack.POLICIES} == {"no-plain-secrets"}


def test_unknown_and_secret_values_are_told_apart() -> None:
    inputs = {"a": UNKNOWN_VALUE, "b": {"$secret": {"c": None}}, "d": {"e": 1}}
    resource = from_graph(recorded("t", inputs))
    assert resource.at("a") is UNKNOWN
    assert resource.at("b.c") is SECRET
    assert resource.at("d.e") == 1
    assert resource.at("d.missing.deeper", "default") == "default"


def test_the_analyzers_unknowns_are_unknown() -> None:
    props = {"a": UNKNOWN_STRING_VALUE, "b": ["x", UNKNOWN_STRING_VALUE]}
    resource = from_analyzer(analyzed("t", props))
    assert resource.props == {"a": UNKNOWN, "b": ["x", UNKNOWN]}
