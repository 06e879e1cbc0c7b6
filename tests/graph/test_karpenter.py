"""Karpenter in the graph: what it needs outlives it, and what it starts goes before it."""

from __future__ import annotations

import itertools
from typing import Any

import jsonschema
import pytest

from offline.delete_order import delete_waves, dependencies
from offline.graph import Graph, Resource, is_unknown
from tests import schemas
from tests.graph.aws_platform import aws_platform, needs

NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"
NODE_CLASS = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
RELEASE = "kubernetes:helm.sh/v3:Release"
RULE = "aws:cloudwatch/eventRule:EventRule"
TAGS = {
    "neuron-serve/stack": "dev",
    "neuron-serve/cluster": "neuron-serve",
    "neuron-serve/environment": "dev",
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return aws_platform()


def release(graph: Graph) -> Resource:
    return graph.one(RELEASE, "karpenter-karpenter")


def descendants(graph: Graph, name: str) -> list[Resource]:
    """What a component of the type or name is made of, itself left out."""
    (component,) = [resource for resource in graph.resources if resource.kind == name]
    below = [component.urn]
    for resource in graph.resources:
        if resource.parent in below:
            below.append(resource.urn)
    return [graph.by_urn[urn] for urn in below[1:]]


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    return [resource for resource in resources if resource.kind in kinds]


def test_a_pool_goes_before_its_class_and_both_before_karpenter_and_that_before_its_crds(
    graph: Graph,
) -> None:
    wave = {urn: index for index, urns in enumerate(delete_waves(graph)) for urn in urns}
    crds = graph.one(RELEASE, "karpenter-karpenter-crd")
    pools = graph.by_type(NODE_POOL)
    assert [pool.inputs["metadata"]["name"] for pool in pools] == ["inf2", "reserved", "general"]
    for pool in pools:
        name = pool.inputs["spec"]["template"]["spec"]["nodeClassRef"]["name"]
        (node_class,) = [
            each for each in graph.by_type(NODE_CLASS) if each.inputs["metadata"]["name"] == name
        ]
        chain = [pool, node_class, release(graph), crds]
        for first, then in itertools.pairwise(chain):
            assert then.urn in dependencies(graph)[first.urn], (first.label, then.label)
        assert [wave[each.urn] for each in chain] == sorted({wave[each.urn] for each in chain})


@pytest.mark.parametrize(
    ("kinds", "count"),
    [
        (("RolePolicy",), 5),
        (("PodIdentityAssociation",), 1),
        (("Queue", "QueuePolicy"), 2),
        (("EventRule",), 5),
        (("EventTarget",), 5),
        (("RolePolicyAttachment",), 2),
        (("AccessEntry",), 1),
        (("Role",), 2),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_karpenter_keeps_its_rights_its_queue_and_its_nodes_access_to_the_end(
    graph: Graph, kinds: tuple[str, ...], count: int
) -> None:
    needed = of_kind(descendants(graph, "Karpenter"), *kinds)
    assert len(needed) == count
    for resource in needed:
        assert needs(graph, release(graph), resource), resource.label


@pytest.mark.parametrize(
    "kind", ["NodeGroup", "Addon", "NatGateway", "Route", "RouteTableAssociation", "VpcEndpoint"]
)
def test_karpenter_goes_before_the_nodes_it_runs_on_and_their_way_out(graph: Graph, kind: str) -> None:
    needed = of_kind(graph.resources, kind)
    # Of the add-ons, those that a controller cannot do without.
    spared = ("metrics-server", "aws-ebs-csi-driver")
    needed = [resource for resource in needed if not resource.name.endswith(spared)]
    assert needed
    for resource in needed:
        assert needs(graph, release(graph), resource), resource.label


def test_a_pool_has_time_to_end_its_machines(graph: Graph) -> None:
    for pool in graph.by_type(NODE_POOL):
        assert pool.custom_timeouts == {"delete": "30m"}
        assert pool.deleted_with is None


def test_deploying_waits_until_machines_could_be_started(graph: Graph) -> None:
    for node_class in graph.by_type(NODE_CLASS):
        assert node_class.inputs["metadata"]["annotations"] == {"pulumi.com/waitFor": "condition=Ready"}


def test_the_releases_are_pinned_and_have_the_same_version(graph: Graph) -> None:
    for chart in ("karpenter", "karpenter-crd"):
        inputs = graph.one(RELEASE, f"karpenter-{chart}").inputs
        assert inputs["chart"] == f"oci://public.ecr.aws/karpenter/{chart}"
        assert inputs["version"] == "1.14.1"
        assert (inputs["name"], inputs["namespace"]) == (chart, "kube-system")
        assert inputs["atomic"] is True
    # The CRDs have one owner.
    assert release(graph).inputs["skipCrds"] is True


def test_values_are_keys_that_the_chart_has(graph: Graph) -> None:
    assert unknown_values(release(graph).inputs["values"], schemas.load("karpenter-1.14.1.yaml")) == []


def unknown_values(values: dict[str, Any], known: Any, path: str = "") -> list[str]:
    """Paths of the values that a chart's own values do not have; what is empty there takes anything."""
    if not isinstance(known, dict) or not known:
        return []
    found: list[str] = []
    for key, value in values.items():
        if key not in known:
            found.append(f"{path}{key}")
        elif isinstance(value, dict) and not is_unknown(value):
            found += unknown_values(value, known[key], f"{path}{key}.")
    return found


def test_a_value_that_the_chart_does_not_have_is_found() -> None:
    chart = schemas.load("karpenter-1.14.1.yaml")
    assert unknown_values({"settings": {"interruptionQueueName": "q"}}, chart) == [
        "settings.interruptionQueueName"
    ]


def test_the_chart_keeps_karpenter_off_its_own_nodes(graph: Graph) -> None:
    values, chart = release(graph).inputs["values"], schemas.load("karpenter-1.14.1.yaml")
    assert not {"affinity", "tolerations", "topologySpreadConstraints"} & set(values)
    (term,) = chart["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert {"key": "karpenter.sh/nodepool", "operator": "DoesNotExist"} in term["matchExpressions"]
    assert {"key": "CriticalAddonsOnly", "operator": "Exists"} in chart["tolerations"]
    assert values["replicas"] == 2


def test_the_association_is_with_the_account_that_karpenter_runs_as(graph: Graph) -> None:
    (association,) = of_kind(descendants(graph, "Karpenter"), "PodIdentityAssociation")
    assert association.inputs["namespace"] == release(graph).inputs["namespace"]
    service_account = release(graph).inputs["values"]["serviceAccount"]["name"]
    assert association.inputs["serviceAccount"] == service_account == "karpenter"


def test_karpenter_reads_the_queue_that_the_rules_fill(graph: Graph) -> None:
    (queue,) = graph.by_type("aws:sqs/queue:Queue")
    assert queue.inputs["sqsManagedSseEnabled"] is True
    assert queue.inputs["messageRetentionSeconds"] == 300
    assert queue.urn in release(graph).property_dependencies["values"]
    rules = {rule.urn for rule in graph.by_type(RULE)}
    targets = graph.by_type("aws:cloudwatch/eventTarget:EventTarget")
    assert {urn for target in targets for urn in target.property_dependencies["rule"]} == rules
    for target in targets:
        assert target.property_dependencies["arn"] == [queue.urn]


def test_nodes_join_with_the_role_that_has_access(graph: Graph) -> None:
    (access,) = of_kind(descendants(graph, "Karpenter"), "AccessEntry")
    assert access.inputs["type"] == "EC2_LINUX"
    (role,) = access.property_dependencies["principalArn"]
    for node_class in graph.by_type(NODE_CLASS):
        assert role in node_class.property_dependencies["spec"]


def test_pools_in_the_graph_are_what_the_crd_accepts(graph: Graph) -> None:
    schema = schemas.custom_resource_schema("karpenter.sh_nodepools.yaml", "v1")
    for resource in graph.by_type(NODE_POOL):
        jsonschema.validate(resource.inputs, schema)


def test_node_classes_in_the_graph_are_what_the_crd_accepts(graph: Graph) -> None:
    schema = schemas.custom_resource_schema("karpenter.k8s.aws_ec2nodeclasses.yaml", "v1")
    # Ids are AWS's to give; everything else of the spec stands.
    ids = {"subnetSelectorTerms": [{"id": "subnet-0a1"}], "securityGroupSelectorTerms": [{"id": "sg-0a1"}]}
    for resource in graph.by_type(NODE_CLASS):
        jsonschema.validate({**resource.inputs, "spec": {**resource.inputs["spec"], **ids}}, schema)
        assert len(resource.inputs["spec"]["subnetSelectorTerms"]) == 2


def test_nodes_get_the_pinned_image(graph: Graph) -> None:
    for node_class in graph.by_type(NODE_CLASS):
        assert node_class.inputs["spec"]["amiSelectorTerms"] == [{"alias": "al2023@v20261105"}]


def test_everything_that_can_be_tagged_has_the_stacks_tags(graph: Graph) -> None:
    taggable = of_kind(
        descendants(graph, "Karpenter"), "Role", "Queue", "EventRule", "AccessEntry", "PodIdentityAssociation"
    )
    assert len(taggable) == 10
    for resource in taggable:
        assert resource.inputs["tags"].items() >= TAGS.items(), resource.label
    for node_class in graph.by_type(NODE_CLASS):
        assert node_class.inputs["spec"]["tags"] == TAGS


def test_a_first_preview_shows_the_same_resources(graph: Graph) -> None:
    assert [resource.label for resource in aws_platform(unknowns=True).resources] == [
        resource.label for resource in graph.resources
    ]
