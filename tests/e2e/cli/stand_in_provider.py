"""A Pulumi provider that makes nothing, for every package that the program uses.

The engine is the real one; this answers it in place of AWS, Kubernetes and Docker. It keeps a provider's
contract where the program depends on it: outputs are unknown until something is created, a change of what
cannot be changed replaces the resource. Each operation is written to $OPERATIONS_LOG, a JSON line with
`operation` and `urn`, in the order in which the engine asks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, resource_pb2, resource_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

from offline.mock_outputs import custom_outputs
from offline.properties import SIGNATURE

REGION = "us-west-2"
# The protocol's mark of a reference to a resource (sdk/go/common/resource/properties.go of Pulumi).
RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
RESULTS: dict[str, dict[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "id": "123456789012",
        "accountId": "123456789012",
        "arn": "arn:aws:iam::123456789012:user/test",
        "userId": "test",
    },
    "aws:index/getPartition:getPartition": {
        "id": "aws",
        "partition": "aws",
        "dnsSuffix": "amazonaws.com",
        "reverseDnsPrefix": "com.amazonaws",
    },
    "aws:index/getRegion:getRegion": {"id": REGION, "name": REGION, "region": REGION},
    "aws:eks/getAddonVersion:getAddonVersion": {"id": "addon", "version": "v1.0.0-eksbuild.1"},
    "aws:ssm/getParameter:getParameter": {
        "id": "parameter",
        "value": "1.35.6-20260714",
        "insecureValue": "1.35.6-20260714",
    },
    "aws:ecr/getAuthorizationToken:getAuthorizationToken": {
        "id": REGION,
        "userName": "AWS",
        "password": "registry-password",
        "authorizationToken": "token",
        "expiresAt": "2026-01-01T00:00:00Z",
        "proxyEndpoint": "https://123456789012.dkr.ecr.us-west-2.amazonaws.com",
    },
}
OFFERINGS = "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"
CLUSTER_OUTPUTS: dict[str, Any] = {
    "clusterSecurityGroupId": "sg-cluster",
    "clusterSecurityGroup": "sg-cluster",
    "kubeconfig": {"apiVersion": "v1", "kind": "Config"},
    # Of the server that stands in for the cluster, which the program's hooks ask.
    "kubeconfigJson": Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"),
}
# What the program takes from a resource once it exists, besides what follows from its inputs.
OUTPUTS: dict[str, dict[str, Any]] = {
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
    "aws:ecr/repository:Repository": {"registryId": "123456789012", "repositoryUrl": "registry.example/demo"},
    "aws:eks/cluster:Cluster": {"endpoint": "https://eks.example", "status": "ACTIVE"},
    "aws:elasticache/replicationGroup:ReplicationGroup": {"primaryEndpointAddress": "redis.example"},
    "aws:sqs/queue:Queue": {"url": "https://sqs.example/queue"},
}

_log_lock = threading.Lock()


def _note(operation: str, urn: str) -> None:
    line = json.dumps({"operation": operation, "urn": urn})
    with _log_lock, Path(os.environ["OPERATIONS_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def _struct(values: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


class StandIn(provider_pb2_grpc.ResourceProviderServicer):
    """The provider of one package; methods have the protocol's names."""

    def GetPluginInfo(self, request: Empty, context: Any) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version="0.0.0")

    def GetSchema(self, request: Any, context: Any) -> provider_pb2.GetSchemaResponse:  # noqa: N802
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> provider_pb2.CheckResponse:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        return self.Diff(request, context)

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:  # noqa: N802
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=False)

    def Cancel(self, request: Any, context: Any) -> Empty:  # noqa: N802
        return Empty()

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:  # noqa: N802
        if request.tok == OFFERINGS:
            (types,) = [list(f["values"]) for f in request.args["filters"]]
            pairs = [(type_, f"{REGION}{zone}") for type_ in types for zone in "abc"]
            result = {
                "id": REGION,
                "instanceTypes": [type_ for type_, _ in pairs],
                "locations": [zone for _, zone in pairs],
                "locationTypes": ["availability-zone"] * len(pairs),
            }
            return provider_pb2.InvokeResponse(**{"return": _struct(result)})
        if request.tok not in RESULTS:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in has no function {request.tok}")
        return provider_pb2.InvokeResponse(**{"return": _struct(RESULTS[request.tok])})

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        ignored = set(request.ignoreChanges)
        changed = [
            key
            for key in sorted({*request.old_inputs, *request.news})
            if key not in ignored and _value(request.old_inputs, key) != _value(request.news, key)
        ]
        # A Job's pod template, and the names of Kubernetes objects, cannot be changed.
        immutable = {"metadata", "spec"} if "batch/v1:Job" in request.urn else set[str]()
        return provider_pb2.DiffResponse(
            changes=(provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE),
            diffs=changed,
            replaces=[key for key in changed if key in immutable],
        )

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:  # noqa: N802
        _note("create", request.urn)
        id_, outputs = self._outputs(request.urn, request.properties)
        return provider_pb2.CreateResponse(id=id_, properties=outputs)

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:  # noqa: N802
        _note("update", request.urn)
        return provider_pb2.UpdateResponse(properties=self._outputs(request.urn, request.news)[1])

    def Delete(self, request: Any, context: Any) -> Empty:  # noqa: N802
        _note("delete", request.urn)
        return Empty()

    def Construct(self, request: Any, context: Any) -> provider_pb2.ConstructResponse:  # noqa: N802
        """A component of another plugin, here pulumi-eks: the component, and the cluster inside it."""
        with grpc.insecure_channel(request.monitorEndpoint) as channel:
            monitor = resource_pb2_grpc.ResourceMonitorStub(channel)

            def register(**fields: Any) -> Any:
                return monitor.RegisterResource(
                    resource_pb2.RegisterResourceRequest(acceptSecrets=True, acceptResources=True, **fields)
                )

            component = register(
                type=request.type,
                name=request.name,
                parent=request.parent,
                object=request.inputs,
                dependencies=list(request.dependencies),
            )
            cluster = register(
                type="aws:eks/cluster:Cluster",
                name=f"{request.name}-control-plane",
                parent=component.urn,
                custom=True,
                object=_control_plane(request.inputs),
            )
            reference = {SIGNATURE: RESOURCE, "urn": cluster.urn, "id": cluster.id or UNKNOWN}
            outputs = _struct(CLUSTER_OUTPUTS | {"eksCluster": reference})
            monitor.RegisterResourceOutputs(
                resource_pb2.RegisterResourceOutputsRequest(urn=component.urn, outputs=outputs)
            )
        return provider_pb2.ConstructResponse(urn=component.urn, state=outputs)

    def _outputs(self, urn: str, properties: Struct) -> tuple[str, Struct]:
        _, _, qualified, name = urn.rsplit("::", 3)
        type_ = qualified.rpartition("$")[2]
        request = resource_pb2.RegisterResourceRequest(type=type_, name=name, object=properties)
        id_, outputs = custom_outputs(request, urn)
        for key, value in OUTPUTS.get(type_, {}).items():
            outputs[key] = value
        return id_ or name, outputs


def _control_plane(component: Struct) -> Struct:
    """The inputs that pulumi-eks gives the cluster (nodejs/eks/cluster/cluster.ts, 2026-11)."""
    inputs = Struct()
    for key in ("name", "version"):
        inputs.fields[key].CopyFrom(component.fields[key])
    network = inputs.fields["vpcConfig"].struct_value
    for key in ("endpointPrivateAccess", "endpointPublicAccess", "publicAccessCidrs"):
        if key in component.fields:
            network.fields[key].CopyFrom(component.fields[key])
    encryption = Struct()
    encryption.update({"provider": {}, "resources": ["secrets"]})
    encryption.fields["provider"].struct_value.fields["keyArn"].CopyFrom(
        component.fields["encryptionConfigKeyArn"]
    )
    inputs.fields["encryptionConfig"].struct_value.CopyFrom(encryption)
    return inputs


def _value(struct: Struct, key: str) -> Any:
    # Reading a missing key of a protobuf map would add it.
    return struct.fields.get(key, None)


def _main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(StandIn(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # The engine reads the port from the first line and stops the process when it has finished.
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(_main())
