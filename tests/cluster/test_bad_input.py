"""A cluster on which a stack cannot be built: one sentence that names the object and the way out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import LOGS, NewStack
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.service import Service, spec, stack_config
from tests.cluster.settings import Settings
from tests.cluster.stack import Config, Finished, Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

NAME = "refused"
OURS = {"app.kubernetes.io/managed-by": "neuron-serve", "neuron-serve/stack": f"neuron-serve.{NAME}"}
HOLD = "neuron-serve/test"
# All that the stack makes but one kind.
RULES: list[Config] = [
    {"apiGroups": [""], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["apps", "batch", "networking.k8s.io", "policy"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["ray.io"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
]


@pytest.fixture
def stack(new_stack: NewStack, kubernetes: Kubernetes) -> Iterator[Stack]:
    made = new_stack(NAME)
    yield made
    made.close()
    kubernetes.delete("Namespace", NAME)
    wait_until(lambda: not kubernetes.get("Namespace", NAME), "the namespace is gone", timeout_s=300)


@pytest.fixture
def wanted(told: Settings) -> Config:
    return stack_config({NAME: spec(told)})


def namespace(kubernetes: Kubernetes, labels: dict[str, str]) -> None:
    kubernetes.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": labels}})


def sentence(done: Finished) -> str:
    """The one error of a command that was refused; the engine's own have no way out behind a semicolon."""
    assert done.code != 0, done.output
    errors = {line.partition("error: ")[2] for line in done.output.splitlines()}
    (said,) = (error for error in errors if "; " in error)
    return said


def other_stack(kubeconfig: Path, directory: Path) -> Stack:
    return Stack(NAME, directory, LOGS, kubeconfig)


def test_without_a_cluster_preview_and_up_end_in_one_sentence(wanted: Config, tmp_path: Path) -> None:
    stack = other_stack(tmp_path / "kubeconfig", tmp_path)
    (tmp_path / "kubeconfig").write_text(
        json.dumps(
            {
                "clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}],
                "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "nobody"}}],
                "users": [{"name": "nobody", "user": {}}],
                "current-context": "gone",
            }
        )
    )
    for done in (stack.preview(wanted), stack.up_fails(wanted)):
        said = sentence(done)
        assert "(https://127.0.0.1:1) does not answer" in said
        assert "start the cluster" in said


def test_credentials_that_lack_one_kind_are_told_which(
    kubernetes: Kubernetes, wanted: Config, tmp_path: Path
) -> None:
    with_limits = tmp_path / "kubeconfig"
    with_limits.write_text(json.dumps(limited_kubeconfig()))
    try:
        said = sentence(other_stack(with_limits, tmp_path).preview(wanted))
    finally:
        kubectl("delete", "namespace,clusterrole,clusterrolebinding", "limited", "--ignore-not-found")
    assert f"may not create, patch, delete rayservices.ray.io in namespace {NAME!r}" in said
    assert not kubernetes.get("Namespace", NAME)


def limited_kubeconfig() -> dict[str, Any]:
    """A kubeconfig of a service account with the rights of `RULES`."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "limited"}}
    account = {"kind": "ServiceAccount", "name": "limited", "namespace": "limited"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited"}
    for made in (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "limited"}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "limited", "namespace": "limited"},
        },
        role | {"kind": "ClusterRole", "rules": RULES},
        role | {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [account]},
    ):
        kubectl("apply", "--filename", "-", given=json.dumps(made))
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", "limited", "--namespace", "limited")}
    return config


def kubectl(*arguments: str, given: str | None = None) -> str:
    command = ["kubectl", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout.strip()


def test_a_namespace_that_somebody_else_made_is_left_alone(
    kubernetes: Kubernetes, stack: Stack, wanted: Config
) -> None:
    namespace(kubernetes, {"neuron-serve/stack": "neuron-serve.another"})
    for done in (stack.preview(wanted), stack.up_fails(wanted)):
        said = sentence(done)
        assert f"Namespace {NAME!r} exists and belongs to the stack neuron-serve.another" in said
        assert "give the service another name" in said
    assert kubernetes.all("Secret", NAME) == []
    stack.destroy()
    assert kubernetes.get("Namespace", NAME), "a destroy took what the stack never made"


def test_a_ray_service_that_somebody_else_made_is_left_alone(
    kubernetes: Kubernetes, stack: Stack, wanted: Config
) -> None:
    namespace(kubernetes, OURS)
    metadata = {"name": NAME, "namespace": NAME}
    group = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray", "image": "none"}]}}}
    cluster = {"rayClusterConfig": {"headGroupSpec": group}}
    made = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": metadata, "spec": cluster}
    kubernetes.create(made)
    said = sentence(stack.preview(wanted))
    assert f"RayService {NAME!r} in {NAME!r} exists and was not made by this stack" in said
    assert "delete it, or give it another name" in said
    kubernetes.delete("RayService", NAME, NAME)


def test_an_operator_that_runs_already_is_named_with_the_key_that_uses_it(
    told: Settings, stack: Stack
) -> None:
    second = stack_config({NAME: spec(told)}, kuberay=told.operator)
    assert "kuberay.install: false" in sentence(stack.preview(second))


def test_a_namespace_that_is_half_deleted_is_waited_for(
    kubernetes: Kubernetes, stack: Stack, wanted: Config
) -> None:
    namespace(kubernetes, OURS)
    metadata = {"name": "holds", "namespace": NAME, "finalizers": [HOLD]}
    kubernetes.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    old = kubernetes.get("Namespace", NAME)
    kubernetes.delete("Namespace", NAME)
    running = stack.begin_up(wanted)
    wait_until(lambda: HOLD in running.output, "up says what it waits for", timeout_s=300)
    assert not running.is_over
    kubernetes.merge("ConfigMap", "holds", NAME, {"metadata": {"finalizers": None}})
    running.wait().expect()
    assert "Paris" in Service(NAME, kubernetes).answer()
    new = kubernetes.get("Namespace", NAME)
    assert old
    assert new
    assert old["metadata"]["uid"] != new["metadata"]["uid"]
