"""The two stores of Ray's heads, and what a RayService makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from offline.delete_order import delete_waves, dependencies
from offline.graph import Graph, Resource, is_secret, is_unknown
from offline.recorder import evaluate
from tests.graph.conftest import MakeProject
from tests.schemas import custom_resource_schema

CHECKOUT = Path(__file__).resolve().parents[2]

GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
SECRET = "kubernetes:core/v1:Secret"
NAMESPACE = "kubernetes:core/v1:Namespace"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"

# A stack in small: the store of KIND, and one service that keeps its head's state in it.
PROGRAM = f"""
    import sys
    sys.path.insert(0, {str(CHECKOUT)!r})
    import pulumi
    import pulumi_aws as aws
    from infra.config import StackConfig
    from infra.gcs_store_config import GcsStore as Config
    from infra.secrets_config import Secrets
    from infra.gcs_store import GcsStore, GcsStoreArgs
    from infra.in_cluster_store import InClusterStore, InClusterStoreArgs
    from infra.kubernetes import existing_cluster
    from workloads.ray_service import RayService, RayServiceArgs
    from workloads.service_plan import plan_services

    settings = pulumi.Config()
    config = Config.model_validate(settings.require_object("store"))
    token = settings.get_secret("token")
    aws_only = {{"aws": {{"zones": ["us-west-2a", "us-west-2b"], "cluster": {{"version": "1.34"}},
        "nodePools": [{{"name": "inf2", "instanceTypes": ["inf2.xlarge"], "maxNeuronDevices": 1}}]}}}}
    stack = StackConfig.model_validate({{
        "target": "aws" if config.kind == "elasticache" else "kubernetes",
        "gcsStore": settings.require_object("store"),
        "services": {{"chat": {{"app": "llm", "model": "m", "accelerator": "cpu", "image": "i:1",
                               "auth": "none"}}}},
        **(aws_only if config.kind == "elasticache" else {{}}),
    }})
    on_cluster = existing_cluster(None)
    if config.kind == "elasticache":
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
        subnets = [aws.ec2.Subnet(f"private-{{i}}", vpc_id=vpc.id, cidr_block=f"10.0.{{i}}.0/24")
                   for i in range(3)]
        clients = aws.ec2.SecurityGroup("clients", vpc_id=vpc.id)
        store = GcsStore("gcs-store", GcsStoreArgs(
            config=config, vpc_id=vpc.id, subnet_ids=[subnet.id for subnet in subnets],
            client_security_group_id=clients.id, auth_token=token, tags={{"stack": "test"}}))
    else:
        store = InClusterStore(InClusterStoreArgs(config.image, ["chat", "another"], token), opts=on_cluster)
    plan = plan_services(
        stack, Secrets(gcs_store_auth_token=token), bucket=None, images={{"chat": "i:1"}})["chat"]
    RayService("chat", RayServiceArgs(plan, None, None, [], store), opts=on_cluster)
"""

ELASTICACHE = "{kind: elasticache}"
IN_CLUSTER = "{kind: inCluster}"


class Graphs:
    """Evaluations of the program above, each made once."""

    def __init__(self, make_project: MakeProject) -> None:
        self._make_project = make_project
        self._made: dict[tuple[str, bool, bool], Graph] = {}

    def __call__(self, store: str = ELASTICACHE, *, token: bool = False, unknowns: bool = False) -> Graph:
        key = (store, token, unknowns)
        if key not in self._made:
            config = f"config:\n  demo:store: {store}\n"
            if token:
                config += "  demo:token: {secure: x}\n"
            self._made[key] = evaluate(
                "dev", project_dir=self._make_project(PROGRAM, config=config), unknowns=unknowns
            )
        return self._made[key]


@pytest.fixture(scope="module")
def graphs(make_project: MakeProject) -> Graphs:
    return Graphs(make_project)


def values(secret: Resource) -> dict[str, Any]:
    return secret.inputs.get("data") or secret.inputs["stringData"]


def head(graph: Graph) -> dict[str, Any]:
    return ray_cluster(graph)["headGroupSpec"]["template"]["spec"]["containers"][0]


def ray_cluster(graph: Graph) -> dict[str, Any]:
    return graph.one(RAY_SERVICE).inputs["spec"]["rayClusterConfig"]


def test_the_store_survives_a_zone(graphs: Graphs) -> None:
    group = graphs().one(GROUP).inputs
    assert group["numCacheClusters"] == 2
    assert group["multiAzEnabled"] is True
    assert group["automaticFailoverEnabled"] is True
    assert group["clusterMode"] == "disabled"
    subnet_group = graphs().one("aws:elasticache/subnetGroup:SubnetGroup")
    assert subnet_group.property_dependencies["subnetIds"] == [
        resource.urn for resource in graphs().by_type("aws:ec2/subnet:Subnet")
    ]


def test_the_store_is_encrypted_and_behind_a_password(graphs: Graphs) -> None:
    group = graphs().one(GROUP).inputs
    assert group["atRestEncryptionEnabled"] is True
    assert group["transitEncryptionEnabled"] is True
    assert is_secret(group["authToken"])


def test_only_the_clients_group_reaches_the_store(graphs: Graphs) -> None:
    graph = graphs()
    (rule,) = graph.by_type(RULE)
    assert (rule.inputs["fromPort"], rule.inputs["toPort"], rule.inputs["ipProtocol"]) == (6379, 6379, "tcp")
    assert not {"cidrIpv4", "cidrIpv6", "prefixListId"} & set(rule.inputs)
    clients = graph.one("aws:ec2/securityGroup:SecurityGroup", "clients")
    own = graph.one("aws:ec2/securityGroup:SecurityGroup", "gcs-store")
    assert rule.property_dependencies["referencedSecurityGroupId"] == [clients.urn]
    assert rule.property_dependencies["securityGroupId"] == [own.urn]
    assert not {"ingress", "egress"} & set(own.inputs)
    assert graph.by_type("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule") == []
    assert graph.one(GROUP).property_dependencies["securityGroupIds"] == [own.urn]


def test_a_plain_destroy_deletes_the_store(graphs: Graphs) -> None:
    group = graphs().one(GROUP)
    assert "finalSnapshotIdentifier" not in group.inputs
    assert group.inputs["snapshotRetentionLimit"] == 1
    assert not group.protect
    assert not group.retain_on_delete


def test_changes_come_now_and_only_from_the_stack_file(graphs: Graphs) -> None:
    group = graphs().one(GROUP).inputs
    assert group["applyImmediately"] is True
    assert group["autoMinorVersionUpgrade"] is False


@pytest.mark.parametrize(
    ("store", "engine", "version", "family"),
    [
        (ELASTICACHE, "redis", "7.1", "redis7"),
        ("{kind: elasticache, engine: valkey}", "valkey", "7.2", "valkey7"),
        ("{kind: elasticache, engine: valkey, engineVersion: '8.1'}", "valkey", "8.1", "valkey8"),
    ],
)
def test_parameters_are_of_the_engines_family(
    graphs: Graphs, store: str, engine: str, version: str, family: str
) -> None:
    graph = graphs(store)
    group, parameters = graph.one(GROUP), graph.one("aws:elasticache/parameterGroup:ParameterGroup")
    assert (group.inputs["engine"], group.inputs["engineVersion"]) == (engine, version)
    assert parameters.inputs["family"] == family
    assert parameters.inputs["parameters"] == [{"name": "maxmemory-policy", "value": "noeviction"}]
    assert group.property_dependencies["parameterGroupName"] == [parameters.urn]


def test_everything_of_the_store_is_tagged(graphs: Graphs) -> None:
    component = graphs().one("neuron-serve:infra:GcsStore")
    children = graphs().children(component.urn)
    assert len(children) == 5
    for child in children:
        assert child.inputs["tags"] == {"stack": "test", "Name": "gcs-store"}, child.label


@pytest.mark.parametrize(
    ("store", "type_", "key"), [(ELASTICACHE, GROUP, "authToken"), (IN_CLUSTER, SECRET, "data")]
)
def test_a_drawn_password_is_drawn_once_and_a_given_one_can_change(
    graphs: Graphs, store: str, type_: str, key: str
) -> None:
    assert graphs(store).one(type_, "gcs-store").ignore_changes == [key]
    assert graphs(store, token=True).one(type_, "gcs-store").ignore_changes == []
    if type_ == GROUP:
        assert graphs(token=True).one(GROUP).inputs["authTokenUpdateStrategy"] == "ROTATE"


@pytest.mark.parametrize(("store", "type_"), [(ELASTICACHE, GROUP), (IN_CLUSTER, SECRET)])
@pytest.mark.parametrize("token", [False, True], ids=["drawn", "given"])
def test_ray_gets_the_password_that_the_store_keeps(
    graphs: Graphs, store: str, type_: str, token: bool
) -> None:
    graph = graphs(store, token=token)
    secret = graph.one(SECRET, "chat-gcs-store")
    # From the store's output: a value of this evaluation would be another one than the store has.
    assert graph.one(type_, "gcs-store").urn in secret.property_dependencies["stringData"]
    assert is_secret(values(secret)) or is_secret(values(secret)["password"])
    assert secret.inputs["metadata"]["name"] == "gcs-store"
    password = ray_cluster(graph)["gcsFaultToleranceOptions"]["redisPassword"]
    assert password == {"valueFrom": {"secretKeyRef": {"name": "gcs-store", "key": "password"}}}
    assert secret.urn in graph.one(RAY_SERVICE).dependencies


def test_heads_keep_their_state_in_the_store_by_kuberays_own_field(graphs: Graphs) -> None:
    options = ray_cluster(graphs())["gcsFaultToleranceOptions"]
    assert set(options) == {"redisAddress", "redisPassword"}
    assert is_unknown(options["redisAddress"])
    assert graphs().one(GROUP).urn in graphs().one(RAY_SERVICE).property_dependencies["spec"]
    variables = [variable["name"] for variable in head(graphs())["env"]]
    assert "RAY_REDIS_ADDRESS" not in variables
    assert "annotations" not in ray_cluster(graphs()).get("metadata", {})


def test_the_keys_are_removed_however_long_the_head_waited_for_its_workers(graphs: Graphs) -> None:
    annotations = graphs().one(RAY_SERVICE).inputs["metadata"]["annotations"]
    grace_s = ray_cluster(graphs())["headGroupSpec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert int(annotations["ray.io/gcs-ft-deletion-timeout"]) >= grace_s + 300


def test_the_head_knows_the_certificate_authorities_where_it_needs_them(graphs: Graphs) -> None:
    authorities = {"name": "RAY_REDIS_CA_CERT", "value": "/etc/ssl/certs/ca-certificates.crt"}
    assert authorities in head(graphs())["env"]
    assert authorities not in head(graphs(IN_CLUSTER))["env"]


@pytest.mark.parametrize("store", [ELASTICACHE, IN_CLUSTER])
def test_kuberay_accepts_the_ray_service(graphs: Graphs, store: str) -> None:
    resource = copy.deepcopy(graphs(store).one(RAY_SERVICE).inputs)
    options = resource["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    if is_unknown(options["redisAddress"]):
        options["redisAddress"] = "rediss://store.example:6379"
    jsonschema.validate(resource, custom_resource_schema("ray.io_rayservices.yaml", "v1"))
    assert yaml.safe_load(resource["spec"]["serveConfigV2"])["applications"]


@pytest.mark.parametrize("store", [ELASTICACHE, IN_CLUSTER])
def test_the_store_outlives_the_last_pod_of_the_service(graphs: Graphs, store: str) -> None:
    graph = graphs(store)
    order = {urn: number for number, wave in enumerate(delete_waves(graph)) for urn in wave}
    needed = (
        [graph.one(GROUP), graph.one(RULE)]
        if store == ELASTICACHE
        else [
            graph.one("kubernetes:apps/v1:Deployment", "gcs-store"),
            graph.one("kubernetes:core/v1:Service"),
            graph.one("kubernetes:networking.k8s.io/v1:NetworkPolicy", "gcs-store"),
        ]
    )
    fence = graph.one(NAMESPACE, "chat-namespace")
    for resource in needed:
        assert resource.urn in dependencies(graph)[fence.urn], resource.label
        assert order[graph.one(RAY_SERVICE).urn] < order[fence.urn] < order[resource.urn], resource.label


@pytest.mark.parametrize("store", [ELASTICACHE, IN_CLUSTER])
def test_another_store_is_checked_like_a_release(graphs: Graphs, store: str) -> None:
    check = graphs(store).one("kubernetes:core/v1:ConfigMap", "chat-check").inputs["data"]
    address = ray_cluster(graphs(store))["gcsFaultToleranceOptions"]["redisAddress"]
    assert check["store-address"] == address


@pytest.mark.parametrize("store", [ELASTICACHE, IN_CLUSTER])
def test_the_first_preview_registers_the_same_resources(graphs: Graphs, store: str) -> None:
    first = graphs(store, unknowns=True)
    assert [resource.urn for resource in first.resources] == [r.urn for r in graphs(store).resources]


def test_the_pod_in_the_cluster_is_reached_by_ray_pods_of_services_only(graphs: Graphs) -> None:
    policy = (
        graphs(IN_CLUSTER).one("kubernetes:networking.k8s.io/v1:NetworkPolicy", "gcs-store").inputs["spec"]
    )
    template = graphs(IN_CLUSTER).one("kubernetes:apps/v1:Deployment", "gcs-store").inputs["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    namespaces = {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["another", "chat"],
    }
    assert policy["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchExpressions": [namespaces]},
                    "podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}},
                }
            ],
            "ports": [{"port": 6379, "protocol": "TCP"}],
        }
    ]


def test_the_pod_in_the_cluster_has_a_password_and_no_rights(graphs: Graphs) -> None:
    graph = graphs(IN_CLUSTER)
    spec = graph.one("kubernetes:apps/v1:Deployment", "gcs-store").inputs["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    secret = graph.one(SECRET, "gcs-store")
    assert container["command"][:3] == ["valkey-server", "--requirepass", "$(PASSWORD)"]
    reference = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference["key"] == "password"
    assert reference["name"].startswith("gcs-store-")
    assert graph.one("kubernetes:apps/v1:Deployment", "gcs-store").property_dependencies["spec"] == [
        secret.urn
    ]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_pod_in_the_cluster_is_found_by_its_service(graphs: Graphs) -> None:
    graph = graphs(IN_CLUSTER)
    service = graph.one("kubernetes:core/v1:Service").inputs
    labels = graph.one("kubernetes:apps/v1:Deployment", "gcs-store").inputs["spec"]["template"]["metadata"][
        "labels"
    ]
    assert service["spec"]["selector"] == labels
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert ray_cluster(graph)["gcsFaultToleranceOptions"]["redisAddress"] == f"redis://{host}:6379"


def test_another_password_makes_another_pod(graphs: Graphs) -> None:
    secret = graphs(IN_CLUSTER, token=True).one(SECRET, "gcs-store")
    assert secret.inputs["immutable"] is True
    # Named by Pulumi, so that the new Secret is there before the old one goes.
    assert "name" not in secret.inputs["metadata"]
