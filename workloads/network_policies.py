"""Who may talk to the pods of a service, and whom they may talk to: the service's NetworkPolicies.

Plain specs, which `RayService` registers. All that they do not name is refused, in both directions. Policies
add up: whoever needs another way adds a NetworkPolicy of their own to the namespace.

They hold where the cluster's network add-on enforces them. On aws that is vpc-cni, which is told to. With it
Services and pods must have the same ports
(https://docs.aws.amazon.com/eks/latest/userguide/cni-network-policy.html, looked up 2026-11). Probes come
from the pod's own node, which no policy keeps out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra import namespaces
from infra.config import StackConfig
from infra.service_base import ModelService, Service
from infra.service_config import CHAT_PAGE_APPS, LlmService
from infra.subnets import plan_subnets
from workloads.serve_config import SERVE_PORT

RELEASE_CHECK = {"app.kubernetes.io/component": "release-check"}
PRECOMPILE = {"app.kubernetes.io/component": "precompile"}
DISRUPTION_BUDGETS = {"app.kubernetes.io/component": "disruption-budgets"}
# KubeRay's label of all pods of a Ray cluster, and the one of their role (labelPod in
# ray-operator/controllers/ray/common/pod.go, tag ray-operator/v1.7.0). The job that removes a dead cluster's
# keys from the store is a Ray pod with a role of its own.
RAY_PODS = {"ray.io/is-ray-node": "yes"}
_ROLE = "ray.io/node-type"
_STORE_CLIENTS = ("head", "redis-cleanup")

_DASHBOARD_PORT = 8265
_METRICS_PORT = 8080
_STORE_PORT = 6379
_HTTPS_PORT = 443
# Where a cluster's API listens outside of EKS; a CNI sees the port behind the Service `kubernetes`.
_API_PORTS = (_HTTPS_PORT, 6443)
# Where pods get their credentials on EKS
# (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html, looked up 2026-11).
_POD_IDENTITY_AGENT = "169.254.170.23/32"

Spec = dict[str, Any]


@dataclass(frozen=True)
class Neighbours:
    """What of the stack stands around a service.

    `operator` is a peer, `store` the peers of the store of Ray's head, `load_balancer_cidrs` the subnets of
    load balancers, `chat_page` and `monitoring` whether there are any.
    """

    operator: Mapping[str, Any] = field(default_factory=lambda: _operator({}))
    store: Sequence[Mapping[str, Any]] = ()
    load_balancer_cidrs: Sequence[str] = ()
    chat_page: bool = False
    monitoring: bool = False
    pod_identity: bool = False


@dataclass(frozen=True)
class _Policy:
    """The pods of a label selector, and rules for them."""

    pods: Mapping[str, Any]
    ingress: Sequence[Spec] = field(default_factory=list[Spec])
    egress: Sequence[Spec] = field(default_factory=list[Spec])

    def spec(self) -> Spec:
        types = {"Ingress": self.ingress, "Egress": self.egress}
        spec: Spec = {"podSelector": dict(self.pods), "policyTypes": [name for name in types if types[name]]}
        return spec | {name.lower(): list(rules) for name, rules in types.items() if rules}


def neighbours(stack: StackConfig) -> Neighbours:
    """What a stack file says of a service's surroundings."""
    aws = stack.aws
    balanced = bool(aws and aws.ingress.enabled)
    # An operator that was there before may live anywhere.
    installed = _namespace(namespaces.OPERATOR)["namespaceSelector"] if stack.kuberay.install else {}
    return Neighbours(
        operator=_operator(installed),
        store=_store(stack),
        load_balancer_cidrs=_private_cidrs(stack) if balanced else (),
        chat_page=stack.chat_ui.enabled,
        monitoring=stack.monitoring.enabled,
        pod_identity=aws is not None,
    )


def service_policies(service: Service, around: Neighbours) -> dict[str, Spec]:
    """Specs of the namespace's NetworkPolicies, by name."""
    policies: dict[str, Spec] = {
        "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "ray-pods": _ray_pods(around).spec(),
        "release-check": _release_check().spec(),
        "disruption-budgets": _Policy(_with(DISRUPTION_BUDGETS), egress=_kubernetes_api()).spec(),
    }
    if isinstance(service, LlmService) and service.precompile:
        policies["precompile"] = _Policy(_with(PRECOMPILE), egress=_outwards(around)).spec()
    if clients := _clients(service, around):
        policies["clients"] = _Policy(_with(RAY_PODS, {_ROLE: "worker"}), ingress=clients).spec()
    if around.store:
        heads = {"key": _ROLE, "operator": "In", "values": list(_STORE_CLIENTS)}
        store = _Policy({"matchExpressions": [heads]}, egress=[_rule("to", around.store, _STORE_PORT)])
        policies["store"] = store.spec()
    return policies


def chat_page_policies(services: Sequence[str]) -> dict[str, Spec]:
    """Specs of the chat page's NetworkPolicies: it holds an API key, so no pod may use it.

    `kubectl port-forward` comes from the page's own node and passes.
    """
    models = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(services)}
    workers: Spec = {"namespaceSelector": {"matchExpressions": [models]}, "podSelector": _with(RAY_PODS)}
    return {
        "chat-ui": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [_dns(), _rule("to", [workers], SERVE_PORT)],
        }
    }


def _ray_pods(around: Neighbours) -> _Policy:
    each_other: Spec = {"podSelector": _with(RAY_PODS)}
    ingress: list[Spec] = [
        {"from": [each_other]},
        _rule("from", [around.operator], _DASHBOARD_PORT),
        _rule("from", [{"podSelector": _with(RELEASE_CHECK)}], _DASHBOARD_PORT, SERVE_PORT),
    ]
    if around.monitoring:
        ingress.append(_rule("from", [_namespace(namespaces.MONITORING)], _METRICS_PORT))
    return _Policy(_with(RAY_PODS), ingress, [{"to": [each_other]}, *_outwards(around)])


def _outwards(around: Neighbours) -> list[Spec]:
    # Model hubs, S3 and other services of AWS have names, not addresses, so they share the rule for the
    # Kubernetes API, which the autoscaler beside the head asks.
    egress = _kubernetes_api()
    if around.pod_identity:
        egress.append(_rule("to", [{"ipBlock": {"cidr": _POD_IDENTITY_AGENT}}], 80))
    return egress


def _kubernetes_api() -> list[Spec]:
    return [_dns(), _rule("to", None, *_API_PORTS)]


def _release_check() -> _Policy:
    egress = [
        *_kubernetes_api(),
        _rule("to", [{"podSelector": _with(RAY_PODS)}], _DASHBOARD_PORT, SERVE_PORT),
    ]
    return _Policy(_with(RELEASE_CHECK), egress=egress)


def _clients(service: Service, around: Neighbours) -> list[Spec]:
    """Those who may ask the model; a service of one's own is behind neither page nor load balancer."""
    if not isinstance(service, ModelService):
        return []
    peers: list[Spec] = [{"ipBlock": {"cidr": cidr}} for cidr in around.load_balancer_cidrs]
    if around.chat_page and isinstance(service, CHAT_PAGE_APPS):
        peers.append(_namespace(namespaces.CHAT_UI))
    return [_rule("from", peers, SERVE_PORT)] if peers else []


def _operator(namespace_selector: Spec) -> Spec:
    # The label that KubeRay's chart gives to its pods.
    pods = _with({"app.kubernetes.io/name": "kuberay-operator"})
    return {"namespaceSelector": namespace_selector, "podSelector": pods}


def _store(stack: StackConfig) -> list[Spec]:
    if stack.store.kind == "elasticache":
        return [{"ipBlock": {"cidr": cidr}} for cidr in _private_cidrs(stack)]
    return [_namespace(namespaces.STORE)] if stack.store.kind == "inCluster" else []


def _private_cidrs(stack: StackConfig) -> list[str]:
    """The subnets of stores and internal load balancers."""
    if stack.aws is None:
        return []
    plan = plan_subnets(stack.aws.network.cidr, stack.aws.network.pod_cidr, stack.aws.zones)
    return [str(zone.private) for zone in plan]


def _dns() -> Spec:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {"to": [_namespace("kube-system")], "ports": ports}


def _rule(direction: str, peers: Sequence[Mapping[str, Any]] | None, *ports: int) -> Spec:
    """A rule for TCP ports; without peers it is for everybody."""
    rule: Spec = {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    return rule if peers is None else {direction: list(peers), **rule}


def _namespace(name: str) -> Spec:
    # A label that Kubernetes sets, so that no namespace can claim to be another.
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _with(*labels: Mapping[str, str]) -> Spec:
    return {"matchLabels": {key: value for part in labels for key, value in part.items()}}
