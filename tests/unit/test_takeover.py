"""What an interrupted `up` left is taken over; what is somebody else's is refused in one sentence."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
import pytest
from pulumi.runtime.settings import Settings

from infra import cluster_api, namespaces, ray_schema, takeover
from infra.cluster_api import ClusterApi, ClusterError
from tests.api_server import ApiServer, api_server

NAMESPACE = "/api/v1/namespaces/chat"
SECRET = "/api/v1/namespaces/chat/secrets/ray-auth"
RECORDS = "/api/v1/namespaces/kuberay-operator/secrets"
SELECTED = f"{RECORDS}?labelSelector=owner%3Dhelm%2Cname%3Dkuberay-operator"
OURS = {"app.kubernetes.io/managed-by": "neuron-serve", "neuron-serve/stack": "neuron-serve.local"}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


def create(server: ApiServer, inputs: dict[str, Any], *, type_: str = "", dry_run: bool = False) -> None:
    """Run the hook as the engine does before the creation of an object."""

    async def reach() -> ClusterApi:
        return cluster_api.by_kubeconfig(json.dumps(server.kubeconfig()))

    async def run() -> None:
        pulumi.runtime.settings.configure(Settings(project="neuron-serve", stack="local", dry_run=dry_run))
        args = pulumi.ResourceHookArgs("urn", "", "name", type_, new_inputs=inputs)
        await takeover.before_create(reach)(args)

    asyncio.run(run())


def namespace(name: str = "chat") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": OURS}}


def secret(**annotations: str) -> dict[str, Any]:
    metadata = {"name": "ray-auth", "namespace": "chat", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def refusal(server: ApiServer, inputs: dict[str, Any]) -> str:
    with pytest.raises(ClusterError) as refused:
        create(server, inputs, dry_run=True)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_where_nothing_stands_nothing_is_in_the_way(server: ApiServer) -> None:
    create(server, namespace())
    assert f"GET {NAMESPACE}" in server.asked


def test_a_namespace_of_this_stack_is_taken_over(server: ApiServer) -> None:
    server.objects[NAMESPACE] = namespace()
    create(server, namespace())


def test_a_namespace_of_nobody_is_refused_with_the_command_that_hands_it_over(server: ApiServer) -> None:
    server.objects[NAMESPACE] = {"kind": "Namespace", "metadata": {"name": "chat"}}
    message = refusal(server, namespace())
    assert "Namespace 'chat' exists and was not made by this stack; give the service another name" in message
    assert "kubectl label --overwrite namespace chat app.kubernetes.io/managed-by=neuron-serve" in message


def test_a_namespace_of_another_stack_is_refused_with_its_name(server: ApiServer) -> None:
    labels = OURS | {"neuron-serve/stack": "neuron-serve.prod"}
    server.objects[NAMESPACE] = {"kind": "Namespace", "metadata": {"name": "chat", "labels": labels}}
    assert "belongs to the stack neuron-serve.prod" in refusal(server, namespace())


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        (namespaces.OPERATOR, "kuberay.install: false"),
        (namespaces.CHAT_UI, "chatUi.enabled: false"),
        (namespaces.STORE, "gcsStore.kind"),
        (namespaces.MONITORING, "monitoring.enabled: false"),
        (namespaces.SHARED, "apiKeys"),
    ],
)
def test_a_platform_namespace_that_is_taken_names_the_key_that_does_without_it(
    name: str, way_out: str, server: ApiServer
) -> None:
    server.objects[f"/api/v1/namespaces/{name}"] = {"kind": "Namespace", "metadata": {"name": name}}
    assert way_out in refusal(server, namespace(name))


def test_a_namespace_that_is_being_deleted_is_waited_for(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_POLL_S", 0.01)
    server.objects[NAMESPACE] = half_deleted()
    server.goes_after[NAMESPACE] = 3
    create(server, namespace())
    assert NAMESPACE not in server.objects
    assert server.asked.count(f"GET {NAMESPACE}") == 4


def half_deleted() -> dict[str, Any]:
    condition = {"type": "NamespaceContentRemaining", "status": "True", "message": "pods. has 1 resource"}
    found: dict[str, Any] = namespace() | {"status": {"conditions": [condition]}}
    found["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    return found


def test_a_preview_does_not_wait_for_a_deletion(server: ApiServer) -> None:
    server.objects[NAMESPACE] = half_deleted()
    create(server, namespace(), dry_run=True)
    assert server.asked.count(f"GET {NAMESPACE}") == 1


def test_a_deletion_that_never_ends_is_given_up_with_what_holds_it(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_DELETION_TIMEOUT_S", -1)
    server.objects[NAMESPACE] = half_deleted()
    with pytest.raises(ClusterError, match=r"being deleted: pods\. has 1 resource; end what holds it"):
        create(server, namespace())


def test_an_object_that_pulumi_made_in_our_namespace_is_taken_over(server: ApiServer) -> None:
    managers = [{"manager": "kuberay-operator"}, {"manager": "pulumi-kubernetes-3f2a9b11"}]
    server.objects[SECRET] = secret() | {"metadata": {"name": "ray-auth", "managedFields": managers}}
    create(server, secret())


def test_an_object_that_somebody_else_made_is_refused_with_who_it_was(server: ApiServer) -> None:
    metadata = {"name": "ray-auth", "namespace": "chat", "managedFields": [{"manager": "kubectl-create"}]}
    server.objects[SECRET] = secret() | {"metadata": metadata}
    message = refusal(server, secret())
    assert (
        "Secret 'ray-auth' in 'chat' exists and was not made by this stack but by kubectl-create" in message
    )
    assert "delete it, or give it another name" in message


def test_nothing_is_asked_about_a_name_that_the_provider_chose(server: ApiServer) -> None:
    create(server, secret(**{"pulumi.com/autonamed": "true"}))
    create(server, {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "chat"}})
    assert server.asked == []


def test_a_kind_that_the_cluster_does_not_know_yet_has_no_objects(server: ApiServer) -> None:
    inputs = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "inf2"}}
    create(server, inputs)
    assert server.asked == ["GET /apis/karpenter.sh/v1"]


def test_missing_rights_are_said_with_verbs_kind_and_namespace(server: ApiServer) -> None:
    server.forbidden.add("secrets")
    message = refusal(server, secret())
    assert "may not create, patch, delete secrets in namespace 'chat'; ask for a role that may" in message


def helm_release(server: ApiServer, *, dry_run: bool = False) -> None:
    inputs = {"name": "kuberay-operator", "namespace": "kuberay-operator", "chart": "kuberay-operator"}
    create(server, inputs, type_="kubernetes:helm.sh/v3:Release", dry_run=dry_run)


def record(server: ApiServer) -> str:
    name = "sh.helm.release.v1.kuberay-operator.v1"
    metadata = {"name": name, "labels": {"owner": "helm", "status": "pending-install"}}
    server.objects[SELECTED] = {"items": [{"metadata": metadata}]}
    server.objects[f"{RECORDS}/{name}"] = {"metadata": metadata}
    return f"{RECORDS}/{name}"


def test_the_record_of_a_helm_release_that_the_state_does_not_know_is_removed(server: ApiServer) -> None:
    path = record(server)
    helm_release(server)
    assert path not in server.objects


def test_a_preview_removes_no_record(server: ApiServer) -> None:
    path = record(server)
    helm_release(server, dry_run=True)
    assert path in server.objects


SCHEMA: dict[str, Any] = {
    "properties": {
        "spec": {
            "properties": {
                "serveConfigV2": {"type": "string"},
                "env": {"type": "array", "items": {"properties": {"name": {}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            }
        }
    },
    "x-kubernetes-group-version-kind": [{"group": "ray.io", "kind": "RayService", "version": "v1"}],
}


def ray_service(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "chat", "namespace": "chat"}
    return {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": metadata, "spec": spec}


def test_a_definition_of_another_version_is_refused_with_the_fields_it_lacks(server: ApiServer) -> None:
    server.objects["/openapi/v3/apis/ray.io/v1"] = {"components": {"schemas": {"ray": SCHEMA}}}
    known = {"serveConfigV2": "", "env": [{"name": "A"}], "labels": {"a/b": "c"}, "anything": {"x": 1}}
    create(server, ray_service(known))
    message = refusal(server, ray_service({**known, "env": [{"name": "A", "value": "1"}], "authOptions": {}}))
    assert "do not know spec.env[0].value, spec.authOptions; bring them to" in message


def test_a_definition_that_comes_with_the_operator_is_not_missed(server: ApiServer) -> None:
    create(server, ray_service({"authOptions": {}}))
    assert "GET /openapi/v3/apis/ray.io/v1" in server.asked


def test_unknown_fields_are_found_at_every_depth() -> None:
    schema = {"properties": {"a": {"additionalProperties": {"properties": {"b": {}}}}}}
    assert list(ray_schema.unknown_fields({"a": {"x": {"b": 1, "c": 2}}}, schema)) == ["spec.a.x.c"]


@pytest.mark.parametrize("text", ["neuron-serve.local", "a"])
def test_a_label_says_project_and_stack(text: str) -> None:
    assert namespaces.label_value(text) == text


def test_names_that_no_label_can_hold_stay_apart() -> None:
    values = {namespaces.label_value(f"neuron-serve.{'x' * 90}{end}") for end in ("a", "b", "-", "_")}
    assert len(values) == 4
    assert all(len(value) <= 63 and value[-1].isalnum() for value in values)


def test_a_hook_needs_none_of_the_threads_in_which_the_sdk_waits_for_the_engine(server: ApiServer) -> None:
    engine = threading.Event()

    async def reach() -> ClusterApi:
        return cluster_api.by_kubeconfig(json.dumps(server.kubeconfig()))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waits = loop.run_in_executor(None, engine.wait)
        args = pulumi.ResourceHookArgs("urn", "", "name", "", new_inputs=namespace())
        try:
            await asyncio.wait_for(takeover.before_create(reach)(args), timeout=10)
        finally:
            engine.set()
            await waits

    asyncio.run(run())
    assert f"GET {NAMESPACE}" in server.asked
