"""The stacks of the project through the real engine, from nothing to everything and back."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from offline.recorder import evaluate
from tests.e2e.cli.conftest import Cli

pytestmark = pytest.mark.pulumi_cli

# pulumi-eks makes it inside its component, which the offline graph does not look into.
EKS_OWN_CLUSTER = "Cluster cluster-control-plane"
# Of each pair the first is deleted before the second; names are `Kind name`.
DELETED_IN_ORDER = [
    ("RayService mistral-7b", "Namespace mistral-7b-namespace"),
    ("Namespace mistral-7b-namespace", "Release kuberay-operator"),
    ("Namespace mistral-7b-namespace", "NodePool karpenter-inf2"),
    ("Namespace mistral-7b-namespace", "ReplicationGroup gcs-store"),
    ("Namespace mistral-7b-namespace", "SecurityGroupIngressRule gcs-store"),
    ("Namespace mistral-7b-namespace", "Bucket artifacts"),
    ("Namespace mistral-7b-namespace", "PodIdentityAssociation artifacts-mistral-7b"),
    ("NodePool karpenter-inf2", "EC2NodeClass karpenter-inf2-nodes"),
    ("EC2NodeClass karpenter-inf2-nodes", "Release karpenter-karpenter"),
    ("Release karpenter-karpenter", "NodeGroup cluster-system"),
    ("Release kuberay-operator", "NodeGroup cluster-system"),
    ("NodeGroup cluster-system", "NatGateway network-us-west-2a"),
    ("NatGateway network-us-west-2a", "Vpc network"),
]


def label(urn: str) -> str:
    type_, name = urn.rsplit("::", 2)[-2:]
    return f"{type_.rpartition(':')[2]} {name}"


def labels(operations: list[tuple[str, str]], wanted: str) -> list[str]:
    return [label(urn) for operation, urn in operations if operation == wanted]


@pytest.fixture(scope="module")
def up(cli: Cli) -> dict[str, list[tuple[str, str]]]:
    """Every stack, created: what the engine asked for, by stack."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for stack in ("local", "dev", "prod"):
        cli.run("stack", "init", stack)
        cli.operations()
        cli.run("preview", "--stack", stack)
        assert cli.operations() == [], "a preview creates nothing"
        cli.run("up", "--yes", "--stack", stack)
        asked[stack] = cli.operations()
    return asked


@pytest.mark.parametrize("stack", ["local", "dev", "prod"])
def test_one_up_makes_what_the_offline_graph_has(stack: str, up: dict[str, list[tuple[str, str]]]) -> None:
    graph = evaluate(stack)
    made = sorted(name for name in labels(up[stack], "create") if name != EKS_OWN_CLUSTER)
    # Providers are the engine's, and a component of another plugin is one resource without an operation.
    custom = [r for r in graph.resources if r.custom and not r.type.startswith("pulumi:providers:")]
    assert made == sorted(resource.label for resource in custom)
    assert {operation for operation, _ in up[stack]} == {"create"}


@pytest.mark.parametrize("stack", ["local", "dev", "prod"])
def test_a_second_up_changes_nothing(stack: str, cli: Cli, up: dict[str, Any]) -> None:
    assert up[stack]
    cli.run("preview", "--stack", stack, "--expect-no-changes")
    cli.run("up", "--yes", "--stack", stack, "--expect-no-changes")
    assert cli.operations() == []


@pytest.mark.parametrize("stack", ["local", "dev", "prod"])
def test_no_secret_stands_in_the_state(stack: str, cli: Cli, up: dict[str, Any]) -> None:
    resources = cli.state(stack)["deployment"]["resources"]
    secrets = [r for r in resources if r["type"] == "kubernetes:core/v1:Secret"]
    assert len(secrets) >= 1
    for secret in secrets:
        for key in ("data", "stringData"):
            for value in [secret["inputs"].get(key), secret["outputs"].get(key)]:
                assert value is None or "ciphertext" in str(value), (secret["urn"], key)
    shown = cli.run("stack", "output", "--json", "--stack", stack).stdout
    assert '"apiKeys": null' in shown or "[secret]" in shown or '"apiKeys"' not in shown


def test_a_model_argument_changes_the_service_and_its_check_alone(cli: Cli, up: dict[str, Any]) -> None:
    assert up["dev"]
    path = cli.project / "Pulumi.dev.yaml"
    before = path.read_text()
    assert before.count("slots: 8 ") == 1
    path.write_text(before.replace("slots: 8 ", "slots: 4 "))
    try:
        cli.run("up", "--yes", "--stack", "dev")
        operations = cli.operations()
    finally:
        path.write_text(before)
    assert sorted(operations_by_label(operations)) == [
        ("create", "ConfigMap mistral-7b-check"),
        ("create", "Job mistral-7b-check"),
        ("delete", "ConfigMap mistral-7b-check"),
        ("delete", "Job mistral-7b-check"),
        ("update", "RayService mistral-7b"),
    ]
    cli.run("up", "--yes", "--stack", "dev")
    cli.operations()


def operations_by_label(operations: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(operation, label(urn)) for operation, urn in operations]


def test_a_wrong_value_fails_the_preview_and_creates_nothing(cli: Cli, up: dict[str, Any]) -> None:
    assert up["dev"]
    path = cli.project / "Pulumi.dev.yaml"
    before = path.read_text()
    settings = yaml.safe_load(before)
    settings["config"]["neuron-serve:services"]["mistral-7b"]["tensorParallel"] = 3
    path.write_text(yaml.safe_dump(settings))
    try:
        for command in (["preview"], ["up", "--yes"]):
            done = cli.run(*command, "--stack", "dev", check=False)
            assert done.returncode != 0
            assert re.search(r"services\.mistral-7b\.tensorParallel: 3 is not", done.stdout + done.stderr)
            assert "Traceback" not in done.stdout + done.stderr
    finally:
        path.write_text(before)
    assert cli.operations() == []


POLICY_PACK = ("--policy-pack", "policy", "--policy-pack-config", "policy/policy-config.json")


@pytest.mark.parametrize("stack", ["local", "dev", "prod"])
def test_the_policies_hold(stack: str, cli: Cli, up: dict[str, Any]) -> None:
    assert up[stack]
    shown = cli.run("preview", "--stack", stack, *POLICY_PACK).stdout
    assert "neuron-serve" in shown
    assert "[mandatory]" not in shown


def test_a_policy_stops_a_kubernetes_api_that_is_open_to_the_world(cli: Cli, up: dict[str, Any]) -> None:
    assert up["dev"]
    path = cli.project / "Pulumi.dev.yaml"
    before = path.read_text()
    settings = yaml.safe_load(before)
    cluster = settings["config"]["neuron-serve:aws"]["cluster"]
    cluster |= {"publicAccessCidrs": ["0.0.0.0/0"], "allowPublicAccessFromAnywhere": True}
    path.write_text(yaml.safe_dump(settings))
    try:
        done = cli.run("preview", "--stack", "dev", *POLICY_PACK, check=False)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert re.search(r"\[mandatory\].*private-kubernetes-api", done.stdout)


@pytest.mark.parametrize("stack", ["local", "prod", "dev"])
def test_a_plain_destroy_leaves_nothing_and_keeps_the_order(
    stack: str, cli: Cli, up: dict[str, list[tuple[str, str]]]
) -> None:
    created = labels(up[stack], "create")
    cli.run("destroy", "--yes", "--stack", stack)
    deleted = labels(cli.operations(), "delete")
    # Code and images go with their bucket and repository.
    kept = {name for name in created if name.startswith(("BucketObjectv2 ", "Image "))}
    assert sorted(deleted) == sorted(set(created) - kept)
    assert "resources" not in cli.state(stack)["deployment"]
    if stack == "dev":
        for first, later in DELETED_IN_ORDER:
            assert deleted.index(first) < deleted.index(later), (first, later)
