"""The Kubernetes objects: valid, complete, in order, without secrets, and readable by `kubectl`."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from offline.graph import UNKNOWN, Graph, Resource
from offline.manifests import Manifests, manifests, to_yaml
from offline.recorder import evaluate
from tests import schemas
from tests.graph.conftest import Evaluated

RAY_SERVICE = "ray.io_rayservices.yaml"
NEURON_SERVICES = {
    "mistral": {
        "app": "llm",
        "model": "mistralai/Mistral-7B-Instruct-v0.2",
        "accelerator": "neuron",
        "instanceType": "inf2.8xlarge",
        "tensorParallel": 2,
        "image": "registry.example/neuron:1",
        "replicas": {"min": 2, "max": 6},
    },
    "own": {
        "app": "bring-your-own",
        "importPath": "fruit.app:app",
        "accelerator": "nvidia",
        "image": "registry.example/own:1",
        "codeUrl": "s3://code/own.zip",
    },
}


@pytest.fixture(scope="module")
def local(evaluated: Evaluated) -> Manifests:
    return manifests(evaluated("local"), {})


@pytest.fixture(scope="module")
def varied() -> Manifests:
    """Neuron and NVIDIA, API keys, a token, several replicas."""
    overrides = {
        "services": NEURON_SERVICES,
        "apiKeys": {"secure": "v1:x"},
        "huggingFaceToken": {"secure": "v1:y"},
    }
    return manifests(evaluate("local", config_overrides=overrides), {})


@pytest.fixture(params=["local", "varied"])
def some(request: pytest.FixtureRequest) -> Manifests:
    return request.getfixturevalue(request.param)


def graph(*resources: Resource) -> Graph:
    return Graph(project="demo", stack="dev", resources=list(resources), outputs={})


def kubernetes(type_: str, name: str = "x", **inputs: Any) -> Resource:
    version, _, kind = type_.rpartition(":")
    identity = {"apiVersion": version.removeprefix("kubernetes:").removeprefix("core/"), "kind": kind}
    return Resource(urn=f"urn:{name}", type=type_, name=name, custom=True, inputs={**identity, **inputs})


def config_map(**data: Any) -> Resource:
    return kubernetes("kubernetes:core/v1:ConfigMap", metadata={"name": "settings"}, data=data)


def pod_templates(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in objects:
        if manifest["kind"] in ("Deployment", "Job"):
            yield label(manifest), manifest["spec"]["template"]
        if manifest["kind"] == "RayService":
            cluster = manifest["spec"]["rayClusterConfig"]
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                yield f"{label(manifest)} {group.get('groupName', 'head')}", group["template"]


def label(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def test_a_ray_service_is_valid_for_its_crd(some: Manifests) -> None:
    valid = Draft202012Validator(schemas.custom_resource_schema(RAY_SERVICE, "v1"))
    services = [manifest for manifest in some.objects if manifest["kind"] == "RayService"]
    assert services
    for service in services:
        valid.validate(service)


def test_every_pod_is_valid_for_the_pod_schema_of_the_crd(some: Manifests) -> None:
    schema = schemas.custom_resource_schema(RAY_SERVICE, "v1")
    for step in ("spec", "rayClusterConfig", "headGroupSpec", "template"):
        schema = schema["properties"][step]
    templates = list(pod_templates(some.objects))
    assert {name.partition(" ")[0] for name, _ in templates} >= {"RayService", "Job"}
    for _, template in templates:
        Draft202012Validator(schema).validate(template)


def test_the_schema_refuses_what_the_api_server_would_drop_silently(local: Manifests) -> None:
    schema = schemas.custom_resource_schema(RAY_SERVICE, "v1")
    (service,) = [manifest for manifest in local.objects if manifest["kind"] == "RayService"]
    misspelt = {**service, "spec": {**service["spec"], "serveConfig": "x"}}
    with pytest.raises(ValidationError, match="serveConfig"):
        Draft202012Validator(schema).validate(misspelt)


def test_helm_values_are_values_that_the_chart_has(evaluated: Evaluated) -> None:
    release = evaluated("local").one("kubernetes:helm.sh/v3:Release")
    known = schemas.load(f"kuberay-operator-{release.inputs['version']}.yaml")

    def assert_known(values: dict[str, Any], defaults: Any, path: str) -> None:
        for key, value in values.items():
            assert key in defaults, f"{path}{key}"
            # An empty default may hold anything, and what `resources` may hold is Kubernetes' own affair.
            if isinstance(value, dict) and defaults[key] and key != "resources":
                assert_known(value, defaults[key], f"{path}{key}.")

    assert release.inputs["values"]
    assert_known(release.inputs["values"], known, "")


def test_every_object_has_what_kubectl_needs_and_a_place_of_its_own(some: Manifests) -> None:
    keys = [
        (
            manifest["apiVersion"],
            manifest["kind"],
            manifest["metadata"].get("namespace"),
            manifest["metadata"]["name"],
        )
        for manifest in some.objects
    ]
    assert len(set(keys)) == len(keys)


def test_namespaces_come_first_and_every_object_lives_in_one_of_them(some: Manifests) -> None:
    kinds = [manifest["kind"] for manifest in some.objects]
    count = kinds.count("Namespace")
    assert count > 1
    assert kinds[:count] == ["Namespace"] * count
    namespaces = {manifest["metadata"]["name"] for manifest in some.objects[:count]}
    assert {manifest["metadata"]["namespace"] for manifest in some.objects[count:]} <= namespaces


def test_what_a_pod_names_is_there_before_it(some: Manifests) -> None:
    before: set[tuple[str, str | None, str]] = set()
    for manifest in some.objects:
        namespace = manifest["metadata"].get("namespace")
        for name, template in pod_templates([manifest]):
            for kind, wanted in references(template["spec"]):
                assert (kind, namespace, wanted) in before, f"{name}: {kind} {wanted}"
        before.add((manifest["kind"], namespace, manifest["metadata"]["name"]))


def references(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


def test_mounts_have_volumes_and_selectors_have_pods(some: Manifests) -> None:
    for name, template in pod_templates(some.objects):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= volumes, name
    labels = [
        manifest["spec"]["template"]["metadata"]["labels"].items()
        for manifest in some.objects
        if manifest["kind"] == "Deployment"
    ]
    for manifest in some.objects:
        if manifest["kind"] == "Service":
            assert any(manifest["spec"]["selector"].items() <= pod for pod in labels), label(manifest)
        if manifest["kind"] == "Deployment":
            selector = manifest["spec"]["selector"]["matchLabels"].items()
            assert selector <= manifest["spec"]["template"]["metadata"]["labels"].items(), label(manifest)


def test_yaml_brings_the_same_objects_back(some: Manifests) -> None:
    text = to_yaml(some, "demo")
    assert list(yaml.safe_load_all(text)) == some.objects
    assert "&id" not in text


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.sampled_from(
                ["1e3", "12e34567", "0o17", "on", "no", "null", "~", "1:30", "2026-11-01", "a: b"]
            ),
        ),
    )
)
def test_yaml_keeps_every_text_a_text(data: dict[str, str]) -> None:
    (manifest,) = yaml.safe_load_all(to_yaml(manifests(graph(config_map(**data)), {}), "demo"))
    assert manifest["data"] == data


@pytest.mark.parametrize("text", ["1e3", "12e34567", "0o17", "on", "no", "123", "1.5", "0x1f", "true", "~"])
def test_a_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    # Release ids are hexadecimal, and to the API server 12e34567 is a number.
    rendered = to_yaml(manifests(graph(config_map(key=text)), {}), "demo")
    assert f"key: '{text}'" in rendered


def test_what_is_meant_for_pulumi_is_left_out(evaluated: Evaluated, local: Manifests) -> None:
    assert "pulumi.com/" in json.dumps(evaluated("local").to_json())
    assert "pulumi.com/" not in to_yaml(local, "demo")
    annotated = kubernetes(
        "kubernetes:core/v1:Namespace",
        metadata={"name": "n", "annotations": {"pulumi.com/skipAwait": "true", "owner": "me"}},
    )
    (manifest,) = manifests(graph(annotated), {}).objects
    assert manifest["metadata"] == {"name": "n", "annotations": {"owner": "me"}}


def test_an_object_without_a_name_gets_the_one_the_program_computed_with() -> None:
    namespace = kubernetes("kubernetes:core/v1:Namespace", "space")
    (manifest,) = manifests(graph(namespace), {}).objects
    assert manifest["metadata"]["name"].startswith("space-")


def test_what_exists_already_is_not_rendered() -> None:
    existing = Resource(
        urn="u", type="kubernetes:core/v1:Namespace", name="n", custom=True, external=True, id="n"
    )
    assert manifests(graph(existing), {}).objects == []


def test_components_of_a_plugin_are_named_as_missing() -> None:
    chart = Resource(urn="u", type="kubernetes:helm.sh/v4:Chart", name="c", custom=False, remote=True)
    rendered = manifests(graph(chart), {})
    assert rendered.not_rendered == ["Chart c"]
    assert "#   Chart c\n" in to_yaml(rendered, "demo")


def test_a_null_is_left_out_as_the_api_server_reads_it() -> None:
    (manifest,) = manifests(graph(config_map(a=None, b="x")), {}).objects
    assert manifest["data"] == {"b": "x"}


def test_a_placeholder_of_a_secret_cannot_be_applied_by_mistake(varied: Manifests) -> None:
    secrets = [manifest for manifest in varied.objects if manifest["kind"] == "Secret"]
    assert len(secrets) >= 3
    for secret in secrets:
        assert "stringData" not in secret
        for value in secret["data"].values():
            with pytest.raises(ValueError, match="base64"):
                base64.b64decode(value, validate=True)


def test_the_header_names_the_variable_of_every_secret(varied: Manifests) -> None:
    header = to_yaml(varied, "demo").partition("---\n")[0]
    for variable, place in varied.secrets.items():
        assert f"#   {variable}  {place}\n" in header
    assert "SECRET_MISTRAL_HUGGING_FACE_DATA_TOKEN" in varied.secrets


def test_a_secret_is_filled_in_from_its_variable() -> None:
    secret = kubernetes(
        "kubernetes:core/v1:Secret",
        metadata={"name": "keys", "namespace": "chat"},
        data={"$secret": {"old": None}},
        stringData={"$secret": {"api-key": None}},
    )
    environment = {"SECRET_CHAT_KEYS_DATA_API_KEY": "hünter2"}
    rendered = manifests(graph(secret), environment)
    (manifest,) = rendered.objects
    assert base64.b64decode(manifest["data"]["api-key"]).decode() == "hünter2"
    assert manifest["data"]["old"] == "<set SECRET_CHAT_KEYS_DATA_OLD>"
    assert rendered.secrets == {
        "SECRET_CHAT_KEYS_DATA_API_KEY": "chat/keys/data/api-key",
        "SECRET_CHAT_KEYS_DATA_OLD": "chat/keys/data/old",
    }


def test_a_secret_outside_a_secret_object_is_plain_text() -> None:
    rendered = manifests(graph(config_map(token={"$secret": None})), {"SECRET_SETTINGS_DATA_TOKEN": "x"})
    assert rendered.objects[0]["data"] == {"token": "x"}


def test_values_that_only_a_deployment_knows_are_listed() -> None:
    rendered = manifests(graph(config_map(arn=UNKNOWN)), {})
    assert rendered.unknown == ["settings/data/arn"]
    assert rendered.objects[0]["data"] == {"arn": "<known only after deployment>"}
    assert "#   settings/data/arn\n" in to_yaml(rendered, "demo")


def test_a_release_is_the_command_that_installs_it() -> None:
    release = Resource(
        urn="u",
        type="kubernetes:helm.sh/v3:Release",
        name="r",
        custom=True,
        inputs={
            "name": "operator",
            "chart": "kuberay-operator",
            "namespace": "ray",
            "version": "1.7.0",
            "repositoryOpts": {"repo": "https://charts.example"},
            "timeout": 600,
            "atomic": True,
            "skipCrds": True,
            "values": {"image": {"tag": "it's"}, "a.b": [1]},
        },
    )
    rendered = manifests(graph(release), {})
    assert rendered.objects == []
    (command,) = rendered.helm_commands
    assert f"# {command}\n" in to_yaml(rendered, "demo")
    assert shlex.split(command) == [
        *("helm", "upgrade", "--install", "operator", "kuberay-operator"),
        *("--namespace", "ray", "--create-namespace"),
        *("--repo", "https://charts.example", "--version", "1.7.0"),
        *("--wait", "--timeout", "600s", "--atomic", "--skip-crds"),
        *("--set-json", r"a\.b=[1]"),
        *("--set-json", 'image={"tag": "it\'s"}'),
    ]


def test_a_release_that_is_not_awaited_is_not_waited_for() -> None:
    release = Resource(
        urn="u",
        type="kubernetes:helm.sh/v3:Release",
        name="operator",
        custom=True,
        inputs={"chart": "oci://charts.example/operator", "skipAwait": True},
    )
    (command,) = manifests(graph(release), {}).helm_commands
    assert command.startswith("helm upgrade --install operator-")
    assert command.endswith(" oci://charts.example/operator --namespace default --create-namespace")
