"""The Job that compiles ahead, in the recorded graph: before the RayService, and with Ray's rights."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline.delete_order import delete_waves, dependencies
from offline.errors import OfflineError
from offline.graph import Graph, Resource
from offline.manifests import manifests
from offline.recorder import evaluate
from policy.model import from_graph
from policy.rules import check, read_config
from tests.graph.aws_platform import needs
from tests.graph.stacks import stack_file
from tests.network_policies import Cluster, Peer

JOB = "kubernetes:batch/v1:Job"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
NAME = "mistral-7b"


def services(**changes: Any) -> dict[str, Any]:
    written = stack_file("dev")["neuron-serve:services"][NAME]
    return {"services": {NAME: {**written, "precompile": True, **changes}}}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return evaluate("dev", config_overrides=services())


@pytest.fixture(scope="module")
def job(graph: Graph) -> Resource:
    return graph.one(JOB, f"{NAME}-precompile")


def pod(job: Resource) -> dict[str, Any]:
    return job.inputs["spec"]["template"]["spec"]


def test_the_service_waits_for_its_graphs(graph: Graph, job: Resource) -> None:
    assert job.urn in dependencies(graph)[graph.one(RAY_SERVICE).urn]
    assert job.custom_timeouts == {"create": "3900s", "update": "3900s"}
    assert job.inputs["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        ("kubernetes:core/v1:Namespace", f"{NAME}-namespace"),
        ("kubernetes:core/v1:ServiceAccount", f"{NAME}-ray"),
        ("kubernetes:core/v1:ConfigMap", f"{NAME}-precompile"),
        ("kubernetes:networking.k8s.io/v1:NetworkPolicy", f"{NAME}-precompile"),
        ("kubernetes:karpenter.sh/v1:NodePool", "karpenter-inf2"),
        ("aws:s3/bucket:Bucket", "artifacts"),
        ("aws:eks/podIdentityAssociation:PodIdentityAssociation", f"artifacts-{NAME}"),
        ("aws:s3/bucketObjectv2:BucketObjectv2", None),
    ],
)
def test_the_job_has_what_it_needs_to_its_end(
    graph: Graph, job: Resource, type_: str, name: str | None
) -> None:
    assert needs(graph, job, graph.one(type_, name))


def test_the_job_goes_before_the_namespace_that_fences_it(graph: Graph, job: Resource) -> None:
    wave = {urn: index for index, urns in enumerate(delete_waves(graph)) for urn in urns}
    namespace = graph.one("kubernetes:core/v1:Namespace", f"{NAME}-namespace")
    assert wave[graph.one(RAY_SERVICE).urn] < wave[job.urn] < wave[namespace.urn]


def test_it_runs_as_a_worker_does_but_without_a_device(graph: Graph, job: Resource) -> None:
    (group,) = graph.one(RAY_SERVICE).inputs["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    worker = group["template"]["spec"]
    for key in ("serviceAccountName", "nodeSelector", "tolerations", "automountServiceAccountToken"):
        assert pod(job)[key] == worker[key], key
    (mine,), (theirs,) = pod(job)["containers"], worker["containers"]
    assert mine["image"] == theirs["image"]
    assert mine["securityContext"] == theirs["securityContext"]
    limits = dict(theirs["resources"]["limits"])
    assert limits.pop("aws.amazon.com/neuron")
    assert mine["resources"]["limits"] == limits
    url = {"NEURON_COMPILE_CACHE_URL"}
    assert [e for e in mine["env"] if e["name"] in url] == [e for e in theirs["env"] if e["name"] in url]


def test_new_code_does_not_bring_a_new_job(graph: Graph, job: Resource) -> None:
    """The settings are replaced with the code, and what takes a value from them would be as well."""
    settings = graph.one("kubernetes:core/v1:ConfigMap", f"{NAME}-precompile")
    assert settings.urn in job.dependencies
    assert not [key for key, urns in job.property_dependencies.items() if settings.urn in urns]


def test_a_failure_ends_the_job_and_the_loss_of_its_node_does_not(job: Resource) -> None:
    """With a `FailJob` rule Pulumi would wait on: it knows a failed Job by its back-off limit only."""
    (rule,) = job.inputs["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert job.inputs["spec"]["backoffLimit"] == 0


def test_graphs_that_come_back_find_no_job_of_their_name_in_the_way(job: Resource) -> None:
    """The name says what is compiled, so the old Job goes before the new one comes, and no other with it."""
    assert job.delete_before_replace is True


def test_its_arguments_and_its_code_are_the_applications(graph: Graph) -> None:
    settings = graph.one("kubernetes:core/v1:ConfigMap", f"{NAME}-precompile").inputs["data"]
    check = graph.one("kubernetes:core/v1:ConfigMap", f"{NAME}-check").inputs["data"]
    application = json.loads(check["expected.json"])["application"]
    assert json.loads(settings["args.json"]) == application["args"]
    assert json.loads(settings["job.json"]) == {
        "code_url": application["runtime_env"]["working_dir"],
        "timeout_s": 3600,
    }


def test_it_reaches_models_and_bucket_and_nobody_reaches_it(graph: Graph, job: Resource) -> None:
    objects = manifests(graph, {}).objects
    cluster = Cluster([each for each in objects if each["kind"] == "NetworkPolicy"])
    labels = job.inputs["spec"]["template"]["metadata"]["labels"]
    mine, ray = Peer(NAME, labels), Peer(NAME, {"ray.io/is-ray-node": "yes", "ray.io/node-type": "worker"})
    assert cluster.allows(mine, Peer(None, address="203.0.113.7"), 443, "TCP")
    assert cluster.allows(mine, Peer(None, address="169.254.170.23"), 80, "TCP")
    assert cluster.allows(mine, Peer("kube-system", {"k8s-app": "kube-dns"}), 53, "UDP")
    assert not cluster.allows(mine, ray, 8000, "TCP")
    assert not cluster.allows(ray, mine, 8000, "TCP")


def test_it_keeps_to_the_policies(graph: Graph) -> None:
    assert check([from_graph(each) for each in graph.to_json()["resources"]], read_config()) == []


def test_without_it_there_is_nothing_of_it() -> None:
    graph = evaluate("dev")
    assert not [each for each in graph.resources if "precompile" in each.name]


def test_the_pool_must_hold_the_node_that_compiles() -> None:
    with pytest.raises(OfflineError, match=r"mistral-7b.precompile: compiles on one more node .* raise that"):
        evaluate("dev", config_overrides=services(upgrade="recreate", replicas={"min": 3, "max": 3}))


def test_only_aws_has_a_place_for_the_graphs() -> None:
    with pytest.raises(OfflineError, match=r"mistral-7b.precompile: true needs target 'aws'"):
        evaluate("local", config_overrides=services(image="i:1", auth="none"))
