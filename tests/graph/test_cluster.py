"""The EKS cluster: who gets in, what runs before what, and what goes when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline.delete_order import delete_waves, dependencies
from offline.graph import UNKNOWN, Graph, Resource
from tests.graph.aws_platform import needs
from tests.graph.network_and_cluster import PINS, STACKS, platform, untagged

CLUSTER = "eks:index:Cluster"
KEY = "aws:kms/key:Key"
LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
ADD_ON = "aws:eks/addon:Addon"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
ROLE = "aws:iam/role:Role"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
PROVIDER = "pulumi:providers:kubernetes"
STORAGE_CLASS = "kubernetes:storage.k8s.io/v1:StorageClass"

# By name of the add-on, the key that pins it.
ADD_ONS = {
    "vpc-cni": "vpcCni",
    "kube-proxy": "kubeProxy",
    "eks-pod-identity-agent": "podIdentityAgent",
    "coredns": "coredns",
    "aws-ebs-csi-driver": "ebsCsi",
    "metrics-server": "metricsServer",
}
BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
AFTER_NODES = ("coredns", "aws-ebs-csi-driver", "metrics-server")

both = pytest.mark.parametrize("stack", STACKS)


def add_on(graph: Graph, name: str) -> Resource:
    (found,) = (add_on for add_on in graph.by_type(ADD_ON) if add_on.inputs["addonName"] == name)
    return found


def inputs(stack: str) -> dict[str, Any]:
    return platform(stack).one(CLUSTER).inputs


def policies(graph: Graph, role: Resource) -> list[str]:
    return [
        attachment.inputs["policyArn"]
        for attachment in graph.by_type(ATTACHMENT)
        if role.urn in attachment.property_dependencies["role"]
    ]


@both
def test_access_is_by_access_entries_alone(stack: str) -> None:
    assert inputs(stack)["authenticationMode"] == "API"


def test_admins_have_an_access_entry_of_the_whole_cluster_and_nobody_else_has() -> None:
    assert inputs("small")["accessEntries"] == {
        "123456789012-role-platform-admin": {
            "principalArn": "arn:aws:iam::123456789012:role/platform/admin",
            "accessPolicies": {
                "admin": {
                    "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                    "accessScope": {"type": "cluster"},
                }
            },
            "tags": {"stack": "test"},
        }
    }
    assert inputs("large")["accessEntries"] == {}


def test_the_public_endpoint_is_for_the_named_ranges() -> None:
    cluster = inputs("small")
    assert cluster["endpointPrivateAccess"] is True
    assert cluster["endpointPublicAccess"] is True
    assert cluster["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_without_named_ranges_the_endpoint_is_private_and_the_user_is_told() -> None:
    cluster = inputs("large")
    assert cluster["endpointPrivateAccess"] is True
    assert cluster["endpointPublicAccess"] is False
    assert "publicAccessCidrs" not in cluster
    (warning,) = platform("large").diagnostics
    assert warning.severity == "warning"
    assert "can be reached only from its VPC" in warning.message
    assert platform("small").diagnostics == []


@both
def test_the_control_plane_has_subnets_of_its_own(stack: str) -> None:
    graph = platform(stack)
    subnets = {
        urn
        for urn in graph.one(CLUSTER).property_dependencies["subnetIds"]
        if graph.by_urn[urn].kind == "Subnet"
    }
    assert {graph.by_urn[urn].name for urn in subnets} == {
        f"network-control-plane-{zone}" for zone in STACKS[stack]["zones"]
    }


@both
def test_kubernetes_secrets_are_encrypted_with_a_key_of_the_stack(stack: str) -> None:
    graph = platform(stack)
    key, cluster = graph.one(KEY), graph.one(CLUSTER)
    assert key.inputs["enableKeyRotation"] is True
    assert key.urn in cluster.property_dependencies["encryptionConfigKeyArn"]


@pytest.mark.parametrize(("stack", "name", "days"), [("small", "neuron-serve", 30), ("large", "models", 365)])
def test_all_control_plane_logs_go_to_a_group_of_the_stack_that_outlives_the_cluster(
    stack: str, name: str, days: int
) -> None:
    graph = platform(stack)
    cluster, group = graph.one(CLUSTER), graph.one(LOG_GROUP)
    assert cluster.inputs["name"] == name
    assert cluster.inputs["enabledClusterLogTypes"] == [
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    ]
    assert group.inputs["name"] == f"/aws/eks/{name}/cluster"
    assert group.inputs["retentionInDays"] == days
    assert group.urn in dependencies(graph)[cluster.urn]


@both
def test_one_security_group_serves_everybody(stack: str) -> None:
    graph = platform(stack)
    assert inputs(stack)["skipDefaultSecurityGroups"] is True
    assert "clusterSecurityGroup" not in inputs(stack)
    # A launch template that names no group gets the cluster's.
    template = graph.one(TEMPLATE).inputs
    assert not {"vpcSecurityGroupIds", "securityGroupNames", "networkInterfaces"} & template.keys()


@pytest.mark.parametrize(("stack", "support"), [("small", "STANDARD"), ("large", "EXTENDED")])
def test_production_is_not_upgraded_by_eks(stack: str, support: str) -> None:
    assert inputs(stack)["version"] == "1.35"
    assert inputs(stack)["upgradePolicy"] == {"supportType": support}


@both
def test_every_add_on_has_one_owner(stack: str) -> None:
    names = [add_on.inputs["addonName"] for add_on in platform(stack).by_type(ADD_ON)]
    assert sorted(names) == sorted(ADD_ONS)
    cluster = inputs(stack)
    assert cluster["bootstrapSelfManagedAddons"] is False
    assert cluster["useDefaultVpcCni"] is True
    assert cluster["kubeProxyAddonOptions"] == cluster["corednsAddonOptions"] == {"enabled": False}
    assert cluster["skipDefaultNodeGroup"] is True
    assert cluster["createOidcProvider"] is False


@pytest.mark.parametrize("name", ADD_ONS)
def test_an_add_on_has_its_pinned_build_and_the_stacks_settings_win(name: str) -> None:
    add_on_inputs = add_on(platform("large"), name).inputs
    assert add_on_inputs["addonVersion"] == PINS[ADD_ONS[name]]
    assert add_on_inputs["resolveConflictsOnCreate"] == "OVERWRITE"
    assert add_on_inputs["resolveConflictsOnUpdate"] == "OVERWRITE"
    assert "preserve" not in add_on_inputs


def test_what_is_pinned_is_not_looked_up() -> None:
    tokens = {call.token for call in platform("large").calls}
    assert not {token for token in tokens if "AddonVersion" in token or "Parameter" in token}


def test_what_is_not_pinned_is_looked_up_and_unknown_offline() -> None:
    graph = platform("small")
    looked_up = [
        call.arguments["addonName"]
        for call in graph.calls
        if call.token == "aws:eks/getAddonVersion:getAddonVersion"
    ]
    assert sorted(looked_up) == sorted(ADD_ONS)
    assert all(add_on.inputs["addonVersion"] == UNKNOWN for add_on in graph.by_type(ADD_ON))
    assert graph.one(NODE_GROUP).inputs["releaseVersion"] == UNKNOWN


@both
def test_network_policies_are_enforced(stack: str) -> None:
    settings = json.loads(add_on(platform(stack), "vpc-cni").inputs["configurationValues"])
    assert settings["enableNetworkPolicy"] == "true"


@both
@pytest.mark.parametrize(
    ("name", "service_account", "policy"),
    [
        ("vpc-cni", "aws-node", "AmazonEKS_CNI_Policy"),
        ("aws-ebs-csi-driver", "ebs-csi-controller-sa", "service-role/AmazonEBSCSIDriverPolicy"),
    ],
)
def test_pods_that_call_aws_have_a_role_of_their_own(
    stack: str, name: str, service_account: str, policy: str
) -> None:
    graph = platform(stack)
    resource = add_on(graph, name)
    (association,) = resource.inputs["podIdentityAssociations"]
    assert association["serviceAccount"] == service_account
    (role,) = (
        graph.by_urn[urn]
        for urn in resource.property_dependencies["podIdentityAssociations"]
        if graph.by_urn[urn].type == ROLE
    )
    (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    assert statement["Principal"] == {"Service": ["pods.eks.amazonaws.com"]}
    assert policies(graph, role) == [f"arn:aws:iam::aws:policy/{policy}"]
    # Without the policy the pods would start, and fail.
    attachments = [urn for urn in dependencies(graph)[resource.urn] if graph.by_urn[urn].type == ATTACHMENT]
    assert len(attachments) == 1


@pytest.mark.parametrize(("stack", "count"), [("small", 2), ("large", 3)])
def test_system_nodes_are_plain_pinned_al2023_machines_for_anybody(stack: str, count: int) -> None:
    nodes = platform(stack).one(NODE_GROUP).inputs
    assert nodes["amiType"] == "AL2023_x86_64_STANDARD"
    assert nodes["version"] == "1.35"
    assert nodes["instanceTypes"] == ["m6i.large"]
    assert nodes["scalingConfig"] == {"minSize": count, "maxSize": count, "desiredSize": count}
    assert "taints" not in nodes
    if stack == "large":
        assert nodes["releaseVersion"] == "1.35.6-20260714"


@both
def test_a_system_node_may_join_the_cluster_pull_images_and_nothing_else(stack: str) -> None:
    graph = platform(stack)
    (role,) = (
        graph.by_urn[urn]
        for urn in graph.one(NODE_GROUP).property_dependencies["nodeRoleArn"]
        if graph.by_urn[urn].type == ROLE
    )
    (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    assert statement["Principal"] == {"Service": ["ec2.amazonaws.com"]}
    assert policies(graph, role) == [
        "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
    ]


@both
def test_a_system_nodes_credentials_and_disk_are_protected(stack: str) -> None:
    template = platform(stack).one(TEMPLATE).inputs
    assert template["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }
    (disk,) = template["blockDeviceMappings"]
    assert disk["deviceName"] == "/dev/xvda"
    assert disk["ebs"]["volumeType"] == "gp3"
    assert disk["ebs"]["encrypted"] == "true"
    assert disk["ebs"]["deleteOnTermination"] == "true"


@both
def test_what_system_nodes_start_is_tagged(stack: str) -> None:
    graph = platform(stack)
    assert graph.one(TEMPLATE).urn in graph.one(NODE_GROUP).property_dependencies["launchTemplate"]
    specifications = graph.one(TEMPLATE).inputs["tagSpecifications"]
    assert {entry["resourceType"] for entry in specifications} == {"instance", "volume", "network-interface"}
    assert all(entry["tags"]["stack"] == "test" for entry in specifications)


@both
def test_volumes_are_encrypted_and_made_where_their_pod_is(stack: str) -> None:
    storage = platform(stack).one(STORAGE_CLASS).inputs
    assert storage["metadata"] == {
        "name": "gp3",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    }
    assert storage["provisioner"] == "ebs.csi.aws.com"
    assert storage["parameters"] == {"type": "gp3", "encrypted": "true"}
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage["reclaimPolicy"] == "Delete"


@both
def test_nodes_go_before_all_that_they_need(stack: str) -> None:
    graph = platform(stack)
    nodes = graph.one(NODE_GROUP)
    direct = dependencies(graph)[nodes.urn]
    node_policies = {
        attachment.urn
        for attachment in graph.by_type(ATTACHMENT)
        if attachment.name.startswith("cluster-system-nodes-")
    }
    assert len(node_policies) == 2
    assert node_policies <= direct
    assert {add_on(graph, name).urn for name in BEFORE_NODES} <= direct
    assert graph.one(CLUSTER).urn in direct


@both
@pytest.mark.parametrize("name", AFTER_NODES)
def test_an_add_on_with_a_deployment_waits_for_nodes_and_goes_before_them(stack: str, name: str) -> None:
    graph = platform(stack)
    assert graph.one(NODE_GROUP).urn in dependencies(graph)[add_on(graph, name).urn]


@both
@pytest.mark.parametrize("name", BEFORE_NODES)
def test_an_add_on_of_every_node_does_not_wait_for_nodes(stack: str, name: str) -> None:
    graph = platform(stack)
    assert not needs(graph, add_on(graph, name), graph.one(NODE_GROUP))
    assert graph.one(CLUSTER).urn in dependencies(graph)[add_on(graph, name).urn]


@both
def test_volumes_can_be_deleted_as_long_as_there_is_a_storage_class(stack: str) -> None:
    graph = platform(stack)
    driver = add_on(graph, "aws-ebs-csi-driver").urn
    assert driver in dependencies(graph)[graph.one(STORAGE_CLASS).urn]


@both
def test_everything_in_kubernetes_goes_by_the_clusters_provider(stack: str) -> None:
    graph = platform(stack)
    provider = graph.one(PROVIDER)
    objects = [resource for resource in graph.resources if resource.type.startswith("kubernetes:")]
    assert {resource.provider for resource in objects} == {provider.urn}
    # Its identity is the cluster's ARN: a new kubeconfig replaces nothing.
    for key in ("kubeconfig", "clusterIdentifier"):
        assert graph.one(CLUSTER).urn in provider.property_dependencies[key]


@both
def test_the_log_group_and_the_key_go_after_the_cluster_and_all_that_stands_on_it(stack: str) -> None:
    graph = platform(stack)
    wave = {urn: number for number, urns in enumerate(delete_waves(graph)) for urn in urns}
    cluster = wave[graph.one(CLUSTER).urn]
    assert wave[graph.one(LOG_GROUP).urn] > cluster
    assert wave[graph.one(KEY).urn] > cluster
    for type_ in (ADD_ON, NODE_GROUP, PROVIDER, STORAGE_CLASS):
        assert all(wave[resource.urn] < cluster for resource in graph.by_type(type_))


@both
def test_everything_of_the_cluster_is_its_child_and_has_the_stacks_tags(stack: str) -> None:
    graph = platform(stack)
    component = graph.one("neuron-serve:infra:EksCluster")
    made = [
        resource
        for resource in graph.resources
        if resource.name.startswith("cluster") and (resource.custom or resource.remote)
    ]
    assert made == graph.children(component.urn)
    assert list(untagged(graph, {"stack": "test"})) == []


@both
def test_a_first_preview_shows_every_resource(stack: str) -> None:
    known, unknown = platform(stack), platform(stack, unknowns=True)
    assert [resource.urn for resource in unknown.resources] == [resource.urn for resource in known.resources]
