# ruff: noqa: N802 (methods have the names of the protocol's calls)
"""The engine's side of the protocol, played by a recorder.

The SDK talks to the engine through two services, the resource monitor and the engine itself. These two
classes take their place: they keep every request and answer it as a deployment, or a first preview, would.
Transforms and hooks run in the engine, so they do not run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks
from pulumi.runtime.proto import engine_pb2, resource_pb2
from pulumi.runtime.rpc import UNKNOWN

from offline.graph import Diagnostic, FunctionCall, Graph, Resource
from offline.mock_outputs import FUNCTION_RESULTS, custom_outputs, remote_outputs
from offline.properties import plain_object

_STACK_TYPE = "pulumi:pulumi:Stack"


class _NoMocks(Mocks):
    """The recorder answers by itself; nothing asks these."""

    def call(self, args: MockCallArgs) -> Any:
        raise NotImplementedError

    def new_resource(self, args: MockResourceArgs) -> Any:
        raise NotImplementedError


class RecordingMonitor(MockMonitor):
    """The resource monitor: records registrations, reads, function calls and stack outputs of one run.

    Methods whose names begin with a capital are the protocol's (`pulumirpc.ResourceMonitor`).
    """

    def __init__(self, project: str, stack: str, *, unknowns: bool) -> None:
        super().__init__(_NoMocks())
        self._project = project
        self._stack = stack
        self._unknowns = unknowns
        self._resources: dict[str, Resource] = {}
        self._calls: list[FunctionCall] = []
        self._outputs: dict[str, Any] = {}
        self._states: dict[str, dict[str, Any]] = {}

    def graph(self, made: Sequence[str], diagnostics: list[Diagnostic]) -> Graph:
        """All that was recorded; `made` are the URNs in the order in which the program makes resources."""
        return Graph(
            project=self._project,
            stack=self._stack,
            resources=_in_program_order(self._resources, made),
            outputs=self._outputs,
            calls=self._calls,
            diagnostics=diagnostics,
        )

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """The engine's URN: the types of all ancestors but the stack, then the resource's own."""
        ancestors = parent.split("::")[2] if parent else _STACK_TYPE
        qualified = type_ if ancestors == _STACK_TYPE else f"{ancestors}${type_}"
        return f"urn:pulumi:{self._stack}::{self._project}::{qualified}::{name}"

    def RegisterResource(
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        """Record a resource; answer with what its provider would make of it."""
        urn = self.make_urn(request.parent, request.type, request.name)
        self._record(_registered(urn, request))
        id_, outputs = "", Struct()
        if request.remote and not self._unknowns:
            outputs = remote_outputs(request)
        elif request.custom and not self._unknowns:
            id_, outputs = custom_outputs(request, urn)
        self._states[urn] = {"urn": urn, "id": id_, "state": outputs}
        # `unknown` makes every output of a custom resource that is not in the answer unknown instead of None.
        return resource_pb2.RegisterResourceResponse(urn=urn, id=id_, object=outputs, unknown=True)

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> resource_pb2.ReadResourceResponse:
        """Record a resource that exists already; its state is what the program says of it."""
        urn = self.make_urn(request.parent, request.type, request.name)
        id_ = "" if request.id == UNKNOWN else request.id
        self._record(
            Resource(
                urn=urn,
                type=request.type,
                name=request.name,
                custom=True,
                external=True,
                id=id_ or None,
                parent=request.parent or None,
                provider=_provider_urn(request.provider),
                inputs=plain_object(request.properties),
                dependencies=sorted(request.dependencies),
                version=request.version or None,
            )
        )
        state = Struct() if self._unknowns else request.properties
        return resource_pb2.ReadResourceResponse(urn=urn, id=id_, properties=state, unknown=True)

    def RegisterResourceOutputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> Any:
        """Record the stack's outputs; those of components are attributes that the program sets itself."""
        if self._resources[request.urn].type == _STACK_TYPE:
            self._outputs = plain_object(request.outputs)
        return super().RegisterResourceOutputs(request)

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> resource_pb2.ResourceInvokeResponse:
        """Record a call of a provider function and answer it from a table. Raises `pulumi.RunError`."""
        if request.tok == "pulumi:pulumi:getResource":
            # Not the program asks: the SDK does, for a resource that is a value of another one's outputs.
            return _invoke_response(self._states[cast("str", request.args["urn"])])
        self._calls.append(
            FunctionCall(
                token=request.tok,
                arguments=plain_object(request.args),
                provider=_provider_urn(request.provider),
            )
        )
        if request.tok not in FUNCTION_RESULTS:
            raise pulumi.RunError(
                f"the program calls the provider function {request.tok}, which only a provider can answer; "
                "put what it looks up into the configuration, or add its result to FUNCTION_RESULTS in "
                "offline/mock_outputs.py"
            )
        return _invoke_response(FUNCTION_RESULTS[request.tok])

    def _record(self, resource: Resource) -> None:
        if resource.urn in self._resources:
            raise pulumi.RunError(
                f"two resources have the type {resource.type!r}, the name {resource.name!r} and the same "
                "parent; give one of them another name"
            )
        self._resources[resource.urn] = resource


class RecordingEngine:
    """The engine service (`pulumirpc.Engine`): records what the program tells its user."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def Log(self, request: engine_pb2.LogRequest) -> None:
        """Record a message, unless it is meant for debugging or to be overwritten by the next."""
        if request.severity != engine_pb2.DEBUG and not request.ephemeral:
            severity = engine_pb2.LogSeverity.Name(request.severity).lower()
            self.diagnostics.append(
                Diagnostic(severity=severity, message=request.message, urn=request.urn or None)
            )

    def RequirePulumiVersion(self, request: engine_pb2.RequirePulumiVersionRequest) -> None:
        """Any version will do: there is no CLI whose version could be wrong."""


def _in_program_order(resources: Mapping[str, Resource], made: Sequence[str]) -> list[Resource]:
    # The order of arrival depends on when the SDK finds a resource's inputs ready, which differs from run to
    # run, because it waits for sets of resources that are sorted by memory address.
    position = {urn: number for number, urn in enumerate(dict.fromkeys(made))}
    placed: dict[str, Resource] = {}

    def place(urn: str) -> None:
        if urn not in placed:
            needed = {*resources[urn].references, resources[urn].parent or ""} & position.keys()
            for other in sorted(needed, key=position.__getitem__):
                place(other)
            placed[urn] = resources[urn]

    for urn in made:
        place(urn)
    return list(placed.values())


def _registered(urn: str, request: resource_pb2.RegisterResourceRequest) -> Resource:
    return Resource(
        urn=urn,
        type=request.type,
        name=request.name,
        custom=request.custom,
        remote=request.remote,
        parent=request.parent or None,
        provider=_provider_urn(request.provider),
        providers={package: _urn_of(reference) for package, reference in sorted(request.providers.items())},
        inputs=plain_object(request.object),
        dependencies=sorted(request.dependencies),
        property_dependencies={
            key: sorted(dependencies.urns)
            for key, dependencies in sorted(request.propertyDependencies.items())
            if dependencies.urns
        },
        deleted_with=request.deletedWith or None,
        replace_with=list(request.replace_with),
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        aliases=[alias.urn or MessageToDict(alias.spec) for alias in request.aliases],
        custom_timeouts=MessageToDict(request.customTimeouts) or None,
        additional_secret_outputs=list(request.additionalSecretOutputs),
        import_id=request.importId or None,
        hooks={descriptor.name: list(names) for descriptor, names in request.hooks.ListFields()},
        version=request.version or None,
    )


def _invoke_response(result: Mapping[str, Any] | None) -> resource_pb2.ResourceInvokeResponse:
    if result is None:
        return resource_pb2.ResourceInvokeResponse(unknown=True)
    response = resource_pb2.ResourceInvokeResponse()
    # The field is called `return`, which no keyword argument can be.
    getattr(response, "return").update(result)
    return response


def _provider_urn(reference: str) -> str | None:
    return _urn_of(reference) if reference else None


def _urn_of(provider_reference: str) -> str:
    # A provider reference is URN::ID.
    return provider_reference.rpartition("::")[0]
