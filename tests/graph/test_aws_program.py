"""The whole AWS stack: nothing is destroyed under what needs it, and a change touches only what it must."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline.delete_order import delete_waves, dependencies
from offline.errors import OfflineError
from offline.graph import Graph, Resource, is_unknown
from offline.recorder import evaluate

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"
NODE_CLASS = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
RELEASE = "kubernetes:helm.sh/v3:Release"
ADDON = "aws:eks/addon:Addon"


@cache
def dev(unknowns: bool = False) -> Graph:
    return evaluate("dev", unknowns=unknowns)


@cache
def needs() -> dict[str, set[str]]:
    """For every resource, all that must live as long as it does, at any distance."""
    direct = dependencies(dev())
    reached: dict[str, set[str]] = {}
    for urn, found in direct.items():
        reached[urn] = set(found).union(*(reached[dependency] for dependency in found))
    return reached


def named(label: str) -> Resource:
    """A resource of a provider's, by `Kind name`."""
    theirs = [resource for resource in dev().resources if not resource.type.startswith("neuron-serve:")]
    found = [resource for resource in theirs if resource.label == label]
    assert len(found) == 1, (label, [resource.label for resource in theirs])
    return found[0]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("Job mistral-7b-check", "RayService mistral-7b"),
        ("RayService mistral-7b", "Namespace mistral-7b-namespace"),
        ("Namespace mistral-7b-namespace", "Release kuberay-operator"),
        ("Namespace mistral-7b-namespace", "NodePool karpenter-inf2"),
        ("Namespace mistral-7b-namespace", "NodePool karpenter-general"),
        ("Namespace mistral-7b-namespace", "Release neuron"),
        ("Namespace mistral-7b-namespace", "ReplicationGroup gcs-store"),
        ("Namespace mistral-7b-namespace", "SecurityGroupIngressRule gcs-store"),
        ("Namespace mistral-7b-namespace", "Bucket artifacts"),
        ("Namespace mistral-7b-namespace", "PodIdentityAssociation artifacts-mistral-7b"),
        ("Namespace mistral-7b-namespace", "RolePolicy artifacts-ray"),
        ("NodePool karpenter-inf2", "EC2NodeClass karpenter-inf2-nodes"),
        ("EC2NodeClass karpenter-inf2-nodes", "Release karpenter-karpenter"),
        ("Release karpenter-karpenter", "Release karpenter-karpenter-crd"),
        ("Release karpenter-karpenter", "PodIdentityAssociation karpenter-controller"),
        ("Release karpenter-karpenter", "Role karpenter-controller"),
        ("Release karpenter-karpenter", "Role karpenter-node"),
        ("Release karpenter-karpenter", "NodeGroup cluster-system"),
        ("Release kuberay-operator", "NodeGroup cluster-system"),
        ("Release kuberay-operator", "Addon cluster-coredns"),
        ("NodeGroup cluster-system", "Addon cluster-vpc-cni"),
        ("NodeGroup cluster-system", "Cluster cluster"),
        ("NodeGroup cluster-system", "NatGateway network-us-west-2a"),
        ("Release kuberay-operator", "kubernetes cluster-kubernetes"),
        ("kubernetes cluster-kubernetes", "Cluster cluster"),
        ("Cluster cluster", "LogGroup cluster-control-plane"),
    ],
)
def test_goes_before(first: str, later: str) -> None:
    before, after = named(first), named(later)
    assert after.urn in needs()[before.urn]
    waves = {urn: wave for wave, urns in enumerate(delete_waves(dev())) for urn in urns}
    assert waves[before.urn] < waves[after.urn]


def test_everything_in_kubernetes_goes_before_its_provider_and_the_cluster() -> None:
    provider, cluster = named("kubernetes cluster-kubernetes"), named("Cluster cluster")
    objects = [resource for resource in dev().resources if resource.type.startswith("kubernetes:")]
    assert len(objects) > 15
    for resource in objects:
        assert resource.provider == provider.urn, resource.label
        assert cluster.urn in needs()[resource.urn], resource.label


def test_every_resource_has_a_parent() -> None:
    orphans = [r.label for r in dev().resources[1:] if r.parent is None]
    assert orphans == []


def test_nothing_is_made_inside_an_apply() -> None:
    assert {r.urn for r in dev(unknowns=True).resources} == {r.urn for r in dev().resources}


def test_two_evaluations_are_identical() -> None:
    assert evaluate("dev").to_json() == dev().to_json()


def test_workers_are_selected_and_tolerated_by_a_pool() -> None:
    pools = {pool.name: pool.inputs["spec"]["template"]["spec"] for pool in dev().by_type(NODE_POOL)}
    cluster = dev().one(RAY_SERVICE).inputs["spec"]["rayClusterConfig"]
    for group in cluster["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        fitting = [name for name, pool in pools.items() if fits(spec, pool)]
        assert fitting == ["karpenter-inf2"]
    assert fits(cluster["headGroupSpec"]["template"]["spec"], pools["karpenter-general"])
    assert not fits(cluster["headGroupSpec"]["template"]["spec"], pools["karpenter-inf2"])


def fits(pod: dict[str, Any], pool: dict[str, Any]) -> bool:
    """Whether a node of a pool has the labels a pod selects, and no taint that it does not tolerate."""
    values = {item["key"]: item.get("values", []) for item in pool["requirements"]}
    selected = all(value in values.get(key, []) for key, value in pod.get("nodeSelector", {}).items())
    tolerated = {toleration["key"] for toleration in pod.get("tolerations", [])}
    return selected and all(taint["key"] in tolerated for taint in pool.get("taints", []))


def test_heads_keep_their_state_in_the_store() -> None:
    service = dev().one(RAY_SERVICE)
    options = service.inputs["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert is_unknown(options["redisAddress"])  # the endpoint of a group that is yet to be made
    assert named("ReplicationGroup gcs-store").urn in needs()[service.urn]
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "gcs-store"
    assert "externalStorageNamespace" not in options


def test_code_comes_from_the_bucket_by_its_hash() -> None:
    config = yaml.safe_load(dev().one(RAY_SERVICE).inputs["spec"]["serveConfigV2"])
    code = dev().one("aws:s3/bucketObjectv2:BucketObjectv2")
    bucket = dev().one("aws:s3/bucket:Bucket").inputs["bucket"]
    assert config["applications"][0]["runtime_env"] == {"working_dir": f"s3://{bucket}/{code.inputs['key']}"}


def test_taggable_resources_carry_the_stacks_tags() -> None:
    tagged = [r for r in dev().resources if r.type.startswith("aws:") and "tags" in r.inputs]
    assert len(tagged) > 20
    for resource in tagged:
        assert resource.inputs["tags"]["neuron-serve/stack"] == "dev", resource.label


def test_adding_a_service_touches_no_other() -> None:
    services = {"mistral-7b": _service(), "llama": _service() | {"replicas": {"min": 1, "max": 1}}}
    after = evaluate("dev", config_overrides={"services": services})
    changed = [
        resource.label
        for resource in dev().resources
        if resource.custom and resource.inputs != after.by_urn[resource.urn].inputs
    ]
    # The page offers the new model; no other service is touched.
    assert sorted(changed) == ["Deployment chat-ui", "NetworkPolicy chat-ui-chat-ui"]


def test_a_missing_region_is_said_first() -> None:
    with pytest.raises(OfflineError, match=r"aws:region: 'eu-west-1' does not hold .*us-west-2a"):
        evaluate("dev", config_overrides={"aws:region": "eu-west-1"})


def _service() -> dict[str, Any]:
    text = (Path(__file__).resolve().parents[2] / "Pulumi.dev.yaml").read_text()
    return yaml.safe_load(text)["config"]["neuron-serve:services"]["mistral-7b"]


def test_an_engine_without_a_runner_is_warned_of() -> None:
    warnings = [d.message for d in dev().diagnostics if d.severity == "warning"]
    assert any(
        "services.mistral-7b.engine: transformers-neuronx is no longer supported upstream" in text
        for text in warnings
    )
    assert not any("no runner" in d.message for d in evaluate("local").diagnostics)


@cache
def prod() -> Graph:
    return evaluate("prod")


def test_production_pins_every_version() -> None:
    assert not any("is empty" in diagnostic.message for diagnostic in prod().diagnostics)
    for addon in prod().by_type(ADDON):
        assert addon.inputs["addonVersion"].startswith("v"), addon.label
    with pytest.raises(OfflineError, match=r"karpenter.amiDate"):
        evaluate("prod", config_overrides={"aws": _without_ami_date()})


def test_production_outlives_a_zone() -> None:
    gateways = prod().by_type("aws:ec2/natGateway:NatGateway")
    assert len(gateways) == 3
    store = prod().one("aws:elasticache/replicationGroup:ReplicationGroup").inputs
    assert store["multiAzEnabled"] is True
    assert store["automaticFailoverEnabled"] is True
    for service in prod().by_type(RAY_SERVICE):
        group = service.inputs["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
        assert group["replicas"] >= 2, service.label
    keepers = [r for r in prod().by_type(DEPLOYMENT) if r.name.endswith("-disruption-budgets")]
    assert len(keepers) == len(prod().by_type(RAY_SERVICE))


def test_the_pools_of_production_hold_every_replica() -> None:
    pool = prod().one(NODE_POOL, "karpenter-inf2").inputs["spec"]["limits"]["aws.amazon.com/neuron"]
    devices = 0
    for service in prod().by_type(RAY_SERVICE):
        spec = service.inputs["spec"]
        limits = spec["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0][
            "resources"
        ]["limits"]
        (engine,) = [
            deployment
            for deployment in yaml.safe_load(spec["serveConfigV2"])["applications"][0]["deployments"]
            if deployment["name"] == "Engine"
        ]
        most = engine.get("num_replicas") or engine["autoscaling_config"]["max_replicas"]
        devices += math.ceil(most / engine["max_replicas_per_node"]) * int(limits["aws.amazon.com/neuron"])
    assert devices <= int(pool)


def _without_ami_date() -> dict[str, Any]:
    text = (Path(__file__).resolve().parents[2] / "Pulumi.prod.yaml").read_text()
    settings = yaml.safe_load(text)["config"]["neuron-serve:aws"]
    del settings["karpenter"]["amiDate"]
    return settings
