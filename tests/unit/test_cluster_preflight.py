"""A cluster that cannot be used is refused in one sentence, before anything is registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import preflight
from infra.cluster_api import ClusterError
from infra.config import StackConfig
from tests.api_server import ApiServer, api_server

OPERATORS = "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io/name%3Dkuberay-operator"
SERVICE: dict[str, Any] = {
    "app": "llm",
    "model": "m",
    "accelerator": "cpu",
    "image": "i:1",
    "engine": "torch",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE", raising=False)
    with api_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
        yield server


def check(*, install: bool = True, context: str | None = None) -> None:
    keys: dict[str, Any] = {"target": "kubernetes", "kuberay": {"install": install}}
    if context:
        keys["kubeconfigContext"] = context
    preflight.check(StackConfig.model_validate({**keys, "services": {"chat": SERVICE}}))


def refusal(*, install: bool = True, context: str | None = None) -> str:
    with pytest.raises(ClusterError) as refused:
        check(install=install, context=context)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_cluster_that_answers_is_taken(server: ApiServer) -> None:
    check()
    assert "GET /version" in server.asked


def test_an_offline_evaluation_asks_no_cluster(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURON_SERVE_OFFLINE", "true")
    check()
    assert server.asked == []


def test_without_a_kubeconfig_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    message = refusal()
    assert "the cluster of the current context cannot be found" in message
    assert "name an existing kubeconfig in KUBECONFIG" in message


def test_a_kubeconfig_that_is_no_yaml_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE", raising=False)
    (tmp_path / "kubeconfig").write_text("a: [1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(ClusterError, match="cannot be found"):
        check()


def test_an_unknown_context_is_named_with_the_command_that_sets_another(server: ApiServer) -> None:
    message = refusal(context="nowhere")
    assert "the cluster of context 'nowhere' cannot be found" in message
    assert "`pulumi config set kubeconfigContext NAME`" in message


def test_a_server_that_is_not_there_is_named_with_its_address(server: ApiServer, tmp_path: Path) -> None:
    settings = server.kubeconfig()
    settings["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(settings))
    message = refusal()
    assert "(http://127.0.0.1:1) does not answer" in message
    assert "Connection refused" in message


def test_a_server_with_a_certificate_that_nobody_signed_is_refused(server: ApiServer, tmp_path: Path) -> None:
    settings = server.kubeconfig()
    port = server.url.rpartition(":")[2]
    settings["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    (tmp_path / "kubeconfig").write_text(json.dumps(settings))
    assert "does not answer: SSLError" in refusal()


def test_a_server_that_hangs_is_given_up(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.cluster_api._TIMEOUTS_S", (1, 1))
    server.silent = True
    assert "Read timed out" in refusal()


@pytest.mark.parametrize(("status", "way_out"), [(401, "log in again"), (403, "ask for the right")])
def test_credentials_that_are_not_accepted_are_told_from_those_that_do_not_suffice(
    status: int, way_out: str, server: ApiServer
) -> None:
    server.status = status
    message = refusal()
    assert f"{status} as the test says" in message
    assert way_out in message


def test_a_server_that_is_no_kubernetes_is_refused(server: ApiServer) -> None:
    server.objects.clear()
    assert "is no Kubernetes API server" in refusal()


def test_a_cluster_without_kuberay_is_refused_where_the_stack_installs_none(server: ApiServer) -> None:
    check(install=False)
    del server.objects["/apis/ray.io/v1"]
    message = refusal(install=False)
    assert "has no KubeRay" in message
    assert "kuberay.install is false; set it to true" in message


def test_an_operator_in_another_namespace_is_named_with_the_key_that_uses_it(server: ApiServer) -> None:
    image = "quay.io/kuberay/operator:v1.2.2"
    spec = {"template": {"spec": {"containers": [{"image": image}]}}}
    deployment: dict[str, Any] = {"metadata": {"namespace": "kuberay-operator"}, "spec": spec}
    server.objects[OPERATORS] = {"items": [deployment]}
    check()
    deployment["metadata"]["namespace"] = "ray-system"
    message = refusal()
    assert f"{image} in namespace 'ray-system'" in message
    assert "set kuberay.install: false" in message
