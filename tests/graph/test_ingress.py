"""The way to a model from outside, and the daemons of its nodes: what needs what, and where it runs."""

from __future__ import annotations

from typing import Any

import pytest

from offline.delete_order import dependencies
from offline.graph import Graph, Resource
from tests.graph.aws_platform import aws_platform, needs

INGRESS = "kubernetes:networking.k8s.io/v1:Ingress"
RELEASE = "kubernetes:helm.sh/v3:Release"
DAEMON_SET = "kubernetes:apps/v1:DaemonSet"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return aws_platform()


def controller(graph: Graph) -> Resource:
    return graph.one(RELEASE, "load-balancers")


def children(graph: Graph, component: str, *kinds: str) -> list[Resource]:
    (parent,) = [resource for resource in graph.resources if resource.kind == component]
    return [child for child in graph.children(parent.urn) if child.kind in kinds]


def test_a_load_balancer_goes_while_its_controller_is_there(graph: Graph) -> None:
    ingress = graph.one(INGRESS)
    assert controller(graph).urn in dependencies(graph)[ingress.urn]


@pytest.mark.parametrize("kind", ["Role", "RolePolicy", "PodIdentityAssociation"])
def test_the_controller_keeps_its_rights_to_the_end(graph: Graph, kind: str) -> None:
    (needed,) = children(graph, "LoadBalancerController", kind)
    assert needs(graph, controller(graph), needed)


@pytest.mark.parametrize("kind", ["NodeGroup", "NatGateway", "Route", "VpcEndpoint"])
def test_the_controller_goes_before_the_nodes_it_runs_on_and_their_way_out(graph: Graph, kind: str) -> None:
    needed = [resource for resource in graph.resources if resource.kind == kind]
    assert needed
    for resource in needed:
        assert needs(graph, controller(graph), resource), resource.label


def test_a_model_is_reachable_when_it_answers_and_as_long_as_it_is_there(graph: Graph) -> None:
    ingress = graph.one(INGRESS)
    assert ingress.inputs["metadata"]["namespace"] == "chat"
    for needed in (
        graph.one("kubernetes:ray.io/v1:RayService", "chat"),
        graph.one("kubernetes:batch/v1:Job"),
        graph.one("kubernetes:core/v1:Namespace", "chat-namespace"),
    ):
        assert needs(graph, ingress, needed), needed.label


def test_the_address_of_a_model_is_its_name_below_the_stacks_host(graph: Graph) -> None:
    assert list(graph.outputs["loadBalancers"]) == ["https://chat.models.example.com/v1"]
    (rule,) = graph.one(INGRESS).inputs["spec"]["rules"]
    assert rule["host"] == "chat.models.example.com"


def test_the_controller_stays_on_the_system_nodes(graph: Graph) -> None:
    values = controller(graph).inputs["values"]
    (term,) = values["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [{"key": "karpenter.sh/nodepool", "operator": "DoesNotExist"}]
    assert values["tolerations"] == [{"key": "CriticalAddonsOnly", "operator": "Exists"}]


def test_the_association_is_with_the_account_that_the_controller_runs_as(graph: Graph) -> None:
    (association,) = children(graph, "LoadBalancerController", "PodIdentityAssociation")
    assert association.inputs["namespace"] == controller(graph).inputs["namespace"]
    assert (
        association.inputs["serviceAccount"] == controller(graph).inputs["values"]["serviceAccount"]["name"]
    )


def test_of_neurons_chart_the_device_plugin_runs_and_nothing_else(graph: Graph) -> None:
    inputs = graph.one(RELEASE, "neuron").inputs
    assert inputs["chart"] == "oci://public.ecr.aws/neuron/neuron-helm-chart"
    assert inputs["version"] == "1.10.0"
    enabled = [part for part, values in inputs["values"].items() if values["enabled"]]
    assert enabled == ["devicePlugin"]
    assert set(inputs["values"]) == {"devicePlugin", "scheduler", "npd", "draDriver", "ultraserverOperator"}


def test_daemons_of_neuron_nodes_wait_for_the_cluster(graph: Graph) -> None:
    daemons = children(graph, "NeuronDevicePlugin", "Release", "DaemonSet")
    assert len(daemons) == 2
    (node_group,) = [resource for resource in graph.resources if resource.kind == "NodeGroup"]
    for daemon in daemons:
        assert needs(graph, daemon, node_group), daemon.label


def test_the_monitor_runs_where_devices_are(graph: Graph) -> None:
    pod = graph.one(DAEMON_SET).inputs["spec"]["template"]["spec"]
    (pool,) = [
        resource
        for resource in graph.by_type("kubernetes:karpenter.sh/v1:NodePool")
        if resource.inputs["metadata"]["name"] == "inf2"
    ]
    node = pool.inputs["spec"]["template"]["spec"]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    (expression,) = term["matchExpressions"]
    (types,) = [entry for entry in node["requirements"] if entry["key"] == expression["key"]]
    assert set(types["values"]) <= set(expression["values"])
    for taint in node["taints"]:
        assert any(tolerates(toleration, taint) for toleration in pod["tolerations"])


def tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    return toleration["operator"] == "Exists" and all(
        toleration[field] == taint[field] for field in ("key", "effect")
    )
