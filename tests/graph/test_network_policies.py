"""Who reaches whom: the flows that exist pass the recorded NetworkPolicies, all others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from offline.manifests import manifests
from offline.recorder import evaluate
from tests.graph.stacks import stack_file
from tests.graph.test_manifests import NEURON_SERVICES
from tests.network_policies import Cluster, Peer

INTERNET = Peer(None, address="203.0.113.7")
POD_IDENTITY = Peer(None, address="169.254.170.23")
DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
OPERATOR = Peer("kuberay-operator", {"app.kubernetes.io/name": "kuberay-operator"})
PROMETHEUS = Peer("monitoring", {"app.kubernetes.io/name": "prometheus"})
STRANGER = Peer("default", {"ray.io/is-ray-node": "yes", "app.kubernetes.io/component": "release-check"})
# Prod's VPC is 10.0.0.0/16 and its first private subnet the first quarter of it.
BALANCER, STORE = Peer(None, address="10.0.0.9"), Peer(None, address="10.0.0.10")


@dataclass
class Stack:
    """Pods of a stack, with the labels that KubeRay adds, and its policies."""

    objects: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.cluster = Cluster([one for one in self.objects if one["kind"] == "NetworkPolicy"])

    def ray(self, service: str, role: str) -> Peer:
        (resource,) = [
            one for one in self.objects if one["kind"] == "RayService" and one["metadata"]["name"] == service
        ]
        cluster = resource["spec"]["rayClusterConfig"]
        group = cluster["workerGroupSpecs"][0] if role == "worker" else cluster["headGroupSpec"]
        labels = {"ray.io/is-ray-node": "yes", "ray.io/node-type": role}
        return Peer(service, labels | group["template"]["metadata"]["labels"])

    def pod(self, kind: str, namespace: str) -> Peer:
        (resource,) = [
            one for one in self.objects if one["kind"] == kind and one["metadata"]["namespace"] == namespace
        ]
        return Peer(namespace, resource["spec"]["template"]["metadata"]["labels"])

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        return self.cluster.allows(source, target, port, protocol)


ON_CPU = {"model": "org/some-model", "accelerator": "cpu", "image": "i:1"}
PICTURES = {"app": "stable-diffusion", **ON_CPU}
VECTORS = {"app": "embeddings", **ON_CPU}


@pytest.fixture(scope="module")
def small() -> Stack:
    """On a cluster that exists: four services, the store in the cluster, the chat page, no monitoring."""
    overrides = {
        "services": {**NEURON_SERVICES, "pictures": PICTURES, "vectors": VECTORS},
        "apiKeys": {"secure": "v1:x"},
        "gcsStore": {"kind": "inCluster"},
    }
    return Stack(manifests(evaluate("local", config_overrides=overrides), {}).objects)


@pytest.fixture(scope="module")
def prod() -> Stack:
    aws = stack_file("prod")["neuron-serve:aws"]
    arn = "arn:aws:acm:us-west-2:123456789012:certificate/x"
    aws["ingress"] = {"enabled": True, "certificateArn": arn, "host": "models.example.com"}
    overrides = {"aws": aws, "monitoring": {"enabled": True}}
    return Stack(manifests(evaluate("prod", config_overrides=overrides), {}).objects)


def test_the_pods_of_a_ray_cluster_talk_to_each_other_on_every_port(small: Stack) -> None:
    head, worker = small.ray("mistral", "head"), small.ray("mistral", "worker")
    for source, target in ((head, worker), (worker, head), (worker, worker)):
        assert all(small.allows(source, target, port) for port in (6379, 8000, 8265, 10001, 31234))


def test_a_service_does_not_reach_another_ones_pods(small: Stack) -> None:
    for role in ("head", "worker"):
        for port in (6379, 8000, 8080, 8265, 10001):
            assert not small.allows(small.ray("own", "worker"), small.ray("mistral", role), port)
            assert not small.allows(STRANGER, small.ray("mistral", role), port)


def test_the_operator_reaches_the_dashboard_alone(small: Stack) -> None:
    for role in ("head", "worker"):
        assert small.allows(OPERATOR, small.ray("mistral", role), 8265)
        assert not small.allows(OPERATOR, small.ray("mistral", role), 8000)
    assert not small.allows(Peer("kuberay-operator", {"app": "other"}), small.ray("mistral", "head"), 8265)


def test_the_release_check_reaches_all_that_it_asks(small: Stack) -> None:
    check = small.pod("Job", "mistral")
    assert small.allows(check, small.ray("mistral", "head"), 8265)
    assert small.allows(check, small.ray("mistral", "worker"), 8000)
    assert small.allows(check, DNS, 53, "UDP")
    assert all(small.allows(check, INTERNET, port) for port in (443, 6443))  # the Kubernetes API
    assert not small.allows(check, small.ray("mistral", "head"), 6379)
    assert not small.allows(small.ray("mistral", "worker"), check, 8000)


def test_the_keeper_of_budgets_reaches_the_kubernetes_api_and_nothing_else(small: Stack) -> None:
    keeper = small.pod("Deployment", "mistral")
    assert small.allows(keeper, DNS, 53, "UDP")
    assert all(small.allows(keeper, INTERNET, port) for port in (443, 6443))
    for other in (small.ray("mistral", "head"), small.ray("mistral", "worker"), STRANGER):
        assert not any(small.allows(keeper, other, port) for port in (6379, 8000, 8265))
        assert not any(small.allows(other, keeper, port) for port in (80, 443, 8000))


def test_the_chat_page_reaches_chat_and_image_models_and_nobody_reaches_it(small: Stack) -> None:
    page = small.pod("Deployment", "chat-ui")
    for chats_or_paints in ("mistral", "pictures"):
        assert small.allows(page, small.ray(chats_or_paints, "worker"), 8000)
    assert not small.allows(page, small.ray("vectors", "worker"), 8000)
    assert small.allows(page, DNS, 53)
    assert not small.allows(page, small.ray("mistral", "head"), 8000)
    assert not small.allows(page, small.ray("mistral", "worker"), 8265)
    assert not small.allows(page, small.ray("own", "worker"), 8000)
    assert not small.allows(page, INTERNET, 443)
    for other in (STRANGER, small.ray("mistral", "worker"), INTERNET):
        assert not small.allows(other, page, 7860)


def test_only_heads_and_the_clean_up_reach_the_store_in_the_cluster(small: Stack) -> None:
    store = small.pod("Deployment", "gcs-store")
    assert small.allows(small.ray("mistral", "head"), store, 6379)
    assert small.allows(small.ray("mistral", "redis-cleanup"), store, 6379)
    assert not small.allows(small.ray("mistral", "worker"), store, 6379)
    assert not small.allows(small.pod("Job", "mistral"), store, 6379)
    assert not small.allows(STRANGER, store, 6379)
    assert not small.allows(store, INTERNET, 443)


def test_workers_get_out_by_tls_and_by_nothing_else(small: Stack) -> None:
    worker = small.ray("mistral", "worker")
    assert small.allows(worker, INTERNET, 443)
    assert small.allows(worker, DNS, 53, "UDP")
    assert not small.allows(worker, INTERNET, 53, "UDP")
    assert not any(small.allows(worker, INTERNET, port) for port in (22, 25, 80, 6379, 8000))
    assert not small.allows(worker, POD_IDENTITY, 80)  # there is none outside of EKS


def test_on_aws_load_balancers_store_and_credentials_are_reached(prod: Stack) -> None:
    head, worker = prod.ray("mistral-7b", "head"), prod.ray("mistral-7b", "worker")
    assert prod.allows(BALANCER, worker, 8000)
    assert not prod.allows(BALANCER, head, 8000)
    assert not prod.allows(BALANCER, worker, 8265)
    assert not prod.allows(INTERNET, worker, 8000)
    assert prod.allows(head, STORE, 6379)
    assert prod.allows(prod.ray("mistral-7b", "redis-cleanup"), STORE, 6379)
    assert not prod.allows(worker, STORE, 6379)
    assert prod.allows(worker, POD_IDENTITY, 80)


def test_prometheus_reaches_the_metrics_alone(prod: Stack, small: Stack) -> None:
    for role in ("head", "worker"):
        assert prod.allows(PROMETHEUS, prod.ray("mistral-7b", role), 8080)
        assert not prod.allows(PROMETHEUS, prod.ray("mistral-7b", role), 8265)
        assert not small.allows(PROMETHEUS, small.ray("mistral", role), 8080)


def test_every_namespace_of_ours_is_held_to_the_restricted_standard(small: Stack) -> None:
    enforced = {
        one["metadata"]["name"]: one["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
        for one in small.objects
        if one["kind"] == "Namespace"
    }
    # What the operator needs is its chart's to say.
    assert enforced.pop("kuberay-operator") is None
    assert enforced == dict.fromkeys(
        ["mistral", "own", "pictures", "vectors", "chat-ui", "gcs-store"], "restricted"
    )


def test_every_container_passes_the_restricted_standard(small: Stack) -> None:
    allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    contexts = []
    for one in small.objects:
        if one["kind"] in ("Deployment", "Job"):
            templates = [one["spec"]["template"]]
        elif one["kind"] == "RayService":
            cluster = one["spec"]["rayClusterConfig"]
            templates = [
                group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
            ]
            contexts.append(cluster["autoscalerOptions"]["securityContext"])
        else:
            continue
        for template in templates:
            spec = template["spec"]
            assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
            assert all(volume.keys() - {"name"} <= allowed for volume in spec.get("volumes", []))
            contexts += [container["securityContext"] for container in spec["containers"]]
    # Four heads, workers, autoscalers, checks and keepers of budgets, page, store.
    assert len(contexts) == 22
    for context in contexts:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "privileged" not in context
