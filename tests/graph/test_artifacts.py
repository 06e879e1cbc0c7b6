"""The stack's bucket, the code in it, and who may use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline.delete_order import delete_waves, dependencies
from offline.graph import Graph
from offline.recorder import evaluate
from tests.graph.stacks import copy_of_the_checkout, stack_file

BUCKET = "aws:s3/bucket:Bucket"
OBJECT = "aws:s3/bucketObjectv2:BucketObjectv2"
ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
NAMESPACE = "kubernetes:core/v1:Namespace"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
OWN_BUCKET = "neuron-serve-dev-123456789012-us-west-2"

LLM = {"app": "llm", "model": "m", "auth": "none"}
NEURON = {"accelerator": "neuron", "instanceType": "inf2.8xlarge", "tensorParallel": 2}
# `own` brings its own code, `linked` names it.
SERVICES = {
    "neuron": LLM | NEURON,
    "linked": LLM | {"accelerator": "cpu", "image": "i:1", "codeUrl": "https://example.com/code.zip"},
    "own": {"app": "bring-your-own", "importPath": "a.b:c", "accelerator": "cpu", "image": "i:1"},
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return evaluate("dev", config_overrides={"services": SERVICES})


def of(graph: Graph, setting: str) -> dict[str, Any]:
    """Inputs of the bucket's only resource of a kind, for example `BucketVersioning`."""
    (resource,) = [resource for resource in graph.resources if resource.kind == setting]
    assert resource.property_dependencies["bucket"] == [graph.one(BUCKET).urn], setting
    return resource.inputs


def statements(graph: Graph) -> list[dict[str, Any]]:
    return json.loads(graph.one(ROLE_POLICY, "artifacts-ray").inputs["policy"])["Statement"]


def pod_specs(graph: Graph, service: str) -> dict[str, dict[str, Any]]:
    cluster = graph.one(RAY_SERVICE, service).inputs["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "worker": group["template"]["spec"],
    }


def working_dir(graph: Graph, service: str) -> str | None:
    config = yaml.safe_load(graph.one(RAY_SERVICE, service).inputs["spec"]["serveConfigV2"])
    return config["applications"][0]["runtime_env"].get("working_dir")


def test_the_bucket_is_private_encrypted_and_versioned(graph: Graph) -> None:
    access = of(graph, "BucketPublicAccessBlock")
    assert all(
        access[key] is True
        for key in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    )
    assert of(graph, "BucketOwnershipControls")["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    encryption = of(graph, "BucketServerSideEncryptionConfiguration")["rules"]
    assert encryption == [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]
    assert of(graph, "BucketVersioning")["versioningConfiguration"] == {"status": "Enabled"}


def test_the_bucket_refuses_plain_http_and_grants_nothing(graph: Graph) -> None:
    (statement,) = json.loads(of(graph, "BucketPolicy")["policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    bucket, objects = statement["Resource"]
    assert objects == f"{bucket}/*"


def test_what_nobody_needs_expires(graph: Graph) -> None:
    rules = {rule["id"]: rule for rule in of(graph, "BucketLifecycleConfiguration")["rules"]}
    assert rules["old-versions"]["noncurrentVersionExpiration"] == {"noncurrentDays": 30}
    assert rules["broken-uploads"]["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
    assert all("days" not in rule.get("expiration", {}) for rule in rules.values())


def test_a_plain_destroy_deletes_the_bucket(graph: Graph) -> None:
    assert graph.one(BUCKET).inputs["forceDestroy"] is True
    assert not any(resource.protect for resource in graph.resources)


def test_only_llm_services_without_a_code_url_run_the_uploaded_code(graph: Graph) -> None:
    code = graph.one(OBJECT)
    url = f"s3://{graph.one(BUCKET).inputs['bucket']}/{code.inputs['key']}"
    assert url.startswith("s3://neuron-serve-dev-123456789012-us-west-2/code/llm-")
    assert working_dir(graph, "neuron") == url
    assert working_dir(graph, "linked") == "https://example.com/code.zip"
    assert working_dir(graph, "own") is None


def test_the_uploaded_file_is_the_archive_under_a_path_of_no_machine(graph: Graph) -> None:
    code = graph.one(OBJECT).inputs
    asset = code["source"]["$asset"]
    assert asset["path"] == f".cache/{code['key']}"


def test_other_code_is_another_object_and_the_old_one_stays(graph: Graph, tmp_path: Path) -> None:
    edited_checkout = copy_of_the_checkout(tmp_path)
    (edited_checkout / "serve_apps/llm/api.py").open("a").write("# edited\n")
    edited = evaluate("dev", project_dir=edited_checkout, config_overrides={"services": SERVICES})
    before, after = graph.one(OBJECT), edited.one(OBJECT)
    # The same resource with another key: the engine makes the new object first.
    assert before.urn == after.urn
    assert before.inputs["key"] != after.inputs["key"]
    assert after.retain_on_delete
    assert after.delete_before_replace is None
    changed = {
        old.label
        for old, new in zip(graph.resources, edited.resources, strict=True)
        if old.custom and old.inputs != new.inputs
    }
    assert changed == {before.label, "RayService neuron", "ConfigMap neuron-check"}
    old, new = (one.one(RAY_SERVICE, "neuron").inputs["spec"] for one in (graph, edited))
    assert old["rayClusterConfig"] == new["rayClusterConfig"]


def test_ray_pods_may_read_the_bucket_and_write_what_they_compiled(graph: Graph) -> None:
    (arn,) = next(s["Resource"] for s in statements(graph) if s["Action"] == ["s3:ListBucket"])
    granted = {
        (action, resource) for s in statements(graph) for action in s["Action"] for resource in s["Resource"]
    }
    assert granted == {
        ("s3:GetObject", f"{arn}/*"),
        ("s3:PutObject", f"{arn}/neuron-compile-cache/*"),
        ("s3:DeleteObject", f"{arn}/neuron-compile-cache/*"),
        ("s3:AbortMultipartUpload", f"{arn}/neuron-compile-cache/*"),
        ("s3:ListBucket", arn),
    }
    assert graph.one(BUCKET).urn in graph.one(ROLE_POLICY, "artifacts-ray").property_dependencies["policy"]


def test_a_bucket_of_the_users_is_read_and_never_managed() -> None:
    aws = stack_file("dev")["neuron-serve:aws"] | {"artifacts": {"modelBucket": "my-models"}}
    graph = evaluate("dev", config_overrides={"aws": aws})
    mine = [s for s in statements(graph) if any("my-models" in resource for resource in s["Resource"])]
    assert {action for s in mine for action in s["Action"]} == {"s3:GetObject", "s3:ListBucket"}
    assert {resource for s in mine for resource in s["Resource"]} == {
        "arn:aws:s3:::my-models",
        "arn:aws:s3:::my-models/*",
    }
    assert [resource.inputs["bucket"] for resource in graph.by_type(BUCKET)] == [OWN_BUCKET]


def test_pods_get_the_role_by_their_service_account(graph: Graph) -> None:
    role = graph.one("aws:iam/role:Role", "artifacts-ray")
    trust = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    assert [statement["Principal"] for statement in trust] == [{"Service": ["pods.eks.amazonaws.com"]}]
    for service in ("neuron", "linked", "own"):
        association = graph.one(ASSOCIATION, f"artifacts-{service}")
        assert association.inputs["namespace"] == service
        assert association.inputs["serviceAccount"] == "ray"
        assert association.property_dependencies["roleArn"] == [role.urn]
        assert association.property_dependencies["clusterName"] == [graph.one("eks:index:Cluster").urn]
        account = graph.one("kubernetes:core/v1:ServiceAccount", f"{service}-ray")
        assert account.inputs["metadata"] == {"name": "ray", "namespace": service}
        assert account.urn in graph.one(RAY_SERVICE, service).dependencies
        for role_name, spec in pod_specs(graph, service).items():
            assert spec["serviceAccountName"] == "ray", role_name


def test_a_replica_has_no_use_for_the_kubernetes_api(graph: Graph) -> None:
    # Ray's autoscaler in the head has: KubeRay gives its rights to the service account that both name.
    specs = pod_specs(graph, "neuron")
    assert specs["worker"]["automountServiceAccountToken"] is False
    assert "automountServiceAccountToken" not in specs["head"]


def test_neuron_workers_share_what_they_compile(graph: Graph) -> None:
    url = "s3://neuron-serve-dev-123456789012-us-west-2/neuron-compile-cache"
    variable = {"name": "NEURON_COMPILE_CACHE_URL", "value": url}
    assert variable in pod_specs(graph, "neuron")["worker"]["containers"][0]["env"]
    assert variable not in pod_specs(graph, "neuron")["head"]["containers"][0]["env"]
    assert variable not in pod_specs(graph, "linked")["worker"]["containers"][0]["env"]


def test_identity_and_bucket_are_there_before_the_first_pod_and_until_the_last_is_gone(graph: Graph) -> None:
    order = {urn: number for number, wave in enumerate(delete_waves(graph)) for urn in wave}
    needed = [
        graph.one(BUCKET),
        graph.one(OBJECT),
        graph.one("aws:s3/bucketPolicy:BucketPolicy"),
        graph.one(ROLE_POLICY, "artifacts-ray"),
        graph.one("aws:iam/role:Role", "artifacts-ray"),
    ]
    for service in ("neuron", "linked", "own"):
        fence = graph.one(NAMESPACE, f"{service}-namespace")
        association = graph.one(ASSOCIATION, f"artifacts-{service}")
        policy = graph.one(ROLE_POLICY, "artifacts-ray")
        assert {association.urn, policy.urn} <= dependencies(graph)[fence.urn]
        for resource in (association, *needed):
            assert order[fence.urn] < order[resource.urn], resource.label


def test_a_namespace_waits_for_no_other_services_identity(graph: Graph) -> None:
    fence = graph.one(NAMESPACE, "linked-namespace")
    waits = dependencies(graph)[fence.urn]
    assert graph.one(ASSOCIATION, "artifacts-neuron").urn not in waits


def test_the_code_is_uploaded_to_a_bucket_that_is_already_closed(graph: Graph) -> None:
    waits = dependencies(graph)[graph.one(OBJECT).urn]
    for kind in ("BucketPublicAccessBlock", "BucketServerSideEncryptionConfiguration", "BucketPolicy"):
        (setting,) = [resource for resource in graph.resources if resource.kind == kind]
        assert setting.urn in waits, kind


def test_everything_that_can_be_tagged_is(graph: Graph) -> None:
    component = graph.one("neuron-serve:infra:Artifacts")
    tagged = {child.kind for child in graph.children(component.urn) if child.inputs.get("tags")}
    assert tagged == {"Bucket", "BucketObjectv2", "Role", "PodIdentityAssociation"}


def test_the_first_preview_registers_the_same_resources_and_knows_the_code(graph: Graph) -> None:
    first = evaluate("dev", config_overrides={"services": SERVICES}, unknowns=True)
    assert [resource.urn for resource in first.resources] == [resource.urn for resource in graph.resources]
    assert working_dir(first, "neuron") == f"s3://{OWN_BUCKET}/{first.one(OBJECT).inputs['key']}"
