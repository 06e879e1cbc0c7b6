"""What Kubernetes' NetworkPolicies allow, by the rules of their documentation.

A connection passes if the way out of its source allows it and the way into its target does. Policies that
select a pod add up; a pod that none selects for a direction is open in it.
(https://kubernetes.io/docs/concepts/services-networking/network-policies/, looked up 2026-11)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or with `namespace` None an address outside the cluster."""

    namespace: str | None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = "10.255.255.1"


@dataclass(frozen=True)
class Cluster:
    """Manifests of the NetworkPolicies; namespaces have the label that Kubernetes sets, and no other."""

    policies: Sequence[Policy]

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether `source` may open a connection to `port` of `target`."""
        out = self._one_way(source, "Egress", "to", target, port, protocol)
        return out and self._one_way(target, "Ingress", "from", source, port, protocol)

    def _one_way(self, pod: Peer, direction: str, key: str, other: Peer, port: int, protocol: str) -> bool:
        selecting = [
            policy
            for policy in self.policies
            if policy["metadata"]["namespace"] == pod.namespace
            and direction in policy["spec"]["policyTypes"]
            and _matches(policy["spec"]["podSelector"], pod.labels)
        ]
        if not selecting:
            return True
        return any(
            _has_port(rule, port, protocol)
            and (key not in rule or any(_is_peer(p, other, policy) for p in rule[key]))
            for policy in selecting
            for rule in policy["spec"].get(direction.lower(), [])
        )


def _has_port(rule: Policy, port: int, protocol: str) -> bool:
    return "ports" not in rule or any(
        entry["port"] == port and entry["protocol"] == protocol for entry in rule["ports"]
    )


def _is_peer(peer: Policy, other: Peer, policy: Policy) -> bool:
    if "ipBlock" in peer:
        return ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        in_namespace = _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        in_namespace = other.namespace == policy["metadata"]["namespace"]
    return in_namespace and _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Policy, labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()
