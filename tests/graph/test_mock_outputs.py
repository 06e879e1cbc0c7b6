"""What resources answer without a provider: values that can be read, or unknown, but never a lost edge."""

from __future__ import annotations

import json

import pytest

from offline.errors import OfflineError
from offline.graph import UNKNOWN, Graph
from offline.recorder import evaluate
from tests.graph.conftest import MakeProject, urn

THING = "test:index:Thing"

UNKNOWN_NAMES = """
    import pulumi
    import pulumi_kubernetes as k8s
    from resources import Thing

    later = Thing("base").computed
    named = Thing("named", {"name": later})
    Thing("by-arn", {"target": named.arn})
    read = Thing("read", opts=pulumi.ResourceOptions(id=later))
    Thing("by-read", {"target": read.id})
    settings = k8s.core.v1.ConfigMap("settings", metadata={"namespace": later})
    whole = k8s.core.v1.ConfigMap("whole", metadata=later.apply(lambda name: {"name": name}))
    release = k8s.helm.v3.Release("release", chart="c", namespace=later)
    Thing("by-echo", {"target": named.name})
    pulumi.export("ids", [settings.id, whole.id, release.id])
    pulumi.export("echoes", [whole.metadata.name, release.status.namespace])
"""


@pytest.fixture(scope="module", params=[False, True], ids=["known", "first preview"])
def unknown(request: pytest.FixtureRequest, make_project: MakeProject) -> Graph:
    return evaluate("dev", project_dir=make_project(UNKNOWN_NAMES), unknowns=request.param)


def test_what_follows_from_an_unknown_is_unknown(unknown: Graph) -> None:
    assert unknown.one(THING, "by-arn").inputs == {"target": UNKNOWN}
    assert unknown.one(THING, "by-arn").dependencies == [urn(unknown, "named")]
    assert unknown.one(THING, "by-read").inputs == {"target": UNKNOWN}
    assert unknown.one(THING, "read").id is None
    assert unknown.one(THING, "by-echo").inputs == {"target": UNKNOWN}
    assert unknown.one(THING, "by-echo").dependencies == [urn(unknown, "named")]
    assert unknown.outputs == {"ids": [UNKNOWN] * 3, "echoes": [UNKNOWN] * 2}
    # By this text the SDK tells the engine "unknown"; no part of the graph may be made of it.
    assert "04da6b54" not in json.dumps(unknown.to_json())


AWS = """
    import pulumi
    import pulumi_aws as aws
    import pulumi_eks as eks
    import pulumi_kubernetes as k8s

    role = aws.iam.Role("role", assume_role_policy="{}")
    cluster = eks.Cluster("cluster", skip_default_node_group=True)
    nodes = eks.ManagedNodeGroup(
        "nodes", cluster=cluster, node_role=role, opts=pulumi.ResourceOptions(depends_on=[cluster])
    )
    subnets = aws.elasticache.SubnetGroup("subnets", subnet_ids=["a", "b"])
    aws.elasticache.ReplicationGroup("redis", description="gcs", subnet_group_name=subnets.name)
    provider = k8s.Provider("k8s", kubeconfig=cluster.kubeconfig_json, cluster_identifier=role.arn)
    opts = pulumi.ResourceOptions(provider=provider)
    k8s.core.v1.ServiceAccount(
        "account", metadata={"annotations": {"role": role.arn, "oidc": cluster.oidc_provider_arn}}, opts=opts
    )
"""


@pytest.mark.parametrize("unknowns", [False, True], ids=["known", "first preview"])
def test_aws_eks_and_kubernetes_keep_their_edges(make_project: MakeProject, unknowns: bool) -> None:
    graph = evaluate("dev", project_dir=make_project(AWS), unknowns=unknowns)

    def needs(name: str) -> list[str]:
        (resource,) = graph.by_name(name)
        return sorted(graph.by_urn[other].name for other in resource.dependencies)

    assert needs("nodes") == ["cluster"]
    assert needs("redis") == ["subnets"]
    assert needs("k8s") == ["cluster", "role"]
    assert needs("account") == ["cluster", "role"]
    (nodes,) = graph.by_name("nodes")
    assert nodes.inputs["cluster"] == {"$resource": graph.one("eks:index:Cluster").urn}
    assert graph.calls == []


KUBERNETES = """
    import pulumi
    import pulumi_kubernetes as k8s

    namespace = k8s.core.v1.Namespace("space")
    metadata = {"name": "settings", "namespace": namespace.metadata.name}
    named = k8s.core.v1.ConfigMap("named", metadata=metadata)
    release = k8s.helm.v3.Release("operator", chart="operator", namespace=namespace.metadata.name)
    pulumi.export("space", namespace.metadata.name)
    pulumi.export("uid", namespace.metadata.uid)
    pulumi.export("named", named.id)
    pulumi.export("release", release.status.namespace)
    pulumi.export("ip", k8s.core.v1.Service("front").status.load_balancer)
"""


def test_kubernetes_objects_have_names_as_from_their_provider(make_project: MakeProject) -> None:
    project = make_project(KUBERNETES)
    graph = evaluate("dev", project_dir=project)
    space = graph.outputs["space"]
    assert space.startswith("space-")
    assert len(space) == len("space-") + 8
    assert graph.outputs["named"] == f"{space}/settings"
    assert graph.outputs["release"] == space
    assert len(graph.outputs["uid"]) == 36
    assert graph.outputs["ip"] == UNKNOWN
    # What the program sent is recorded as it is: the name is the provider's to add.
    namespace = graph.one("kubernetes:core/v1:Namespace")
    assert "metadata" not in namespace.inputs
    assert graph.one("kubernetes:core/v1:ConfigMap").dependencies == [namespace.urn]
    assert evaluate("dev", project_dir=project) == graph


def test_a_functions_call_is_recorded_and_answered(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        result = pulumi.runtime.invoke("aws:index/getPartition:getPartition", {"x": 1}).value
        pulumi.export("partition", result["partition"])
    """)
    graph = evaluate("dev", project_dir=project)
    assert [(call.token, call.arguments) for call in graph.calls] == [
        ("aws:index/getPartition:getPartition", {"x": 1})
    ]
    assert graph.outputs == {"partition": "aws"}


def test_a_function_without_an_answer_is_refused_by_name(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        pulumi.runtime.invoke("test:index:lookUp", {})
    """)
    with pytest.raises(OfflineError, match="calls the provider function test:index:lookUp"):
        evaluate("dev", project_dir=project)
