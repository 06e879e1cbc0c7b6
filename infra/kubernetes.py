"""How objects get into a cluster: the provider that makes them, and what is checked before it does."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces

# Offline evaluation sets this: it reaches no cloud and no cluster.
OFFLINE = "NEURON_SERVE_OFFLINE"

_NAMESPACE = "kubernetes:core/v1:Namespace"
_TYPES_IN_A_CLUSTER = "kubernetes:"


def existing_cluster(context: str | None) -> pulumi.ResourceOptions:
    """Options of what stands on the cluster of a context of the kubeconfig, or of the current one.

    A named context is also the cluster's identity: an edited kubeconfig then changes how the cluster is
    reached and does not replace what stands on it.
    """
    provider = _provider("kubernetes", k8s.ProviderArgs(context=context, cluster_identifier=context))

    async def reach() -> Any:
        from infra import cluster_api

        return await cluster_api.in_thread(cluster_api.by_context, context)

    return _options(provider, reach, at_preview=True)


def own_cluster(
    name: str, kubeconfig: pulumi.Output[str], identifier: pulumi.Output[str], parent: pulumi.Resource
) -> pulumi.ResourceOptions:
    """Options of what stands on a cluster that the stack itself makes.

    A preview asks it nothing: before the first `up` there is none, and later who may see a preview need not
    reach the cluster.
    """
    # The kubeconfig may change; only another cluster may replace what stands on this one.
    args = k8s.ProviderArgs(kubeconfig=kubeconfig, cluster_identifier=identifier)
    provider = _provider(name, args, pulumi.ResourceOptions(parent=parent))

    async def reach() -> Any:
        from infra import cluster_api

        return await cluster_api.in_thread(cluster_api.by_kubeconfig, str(await kubeconfig.future()))

    return _options(provider, reach, at_preview=False)


def _provider(name: str, args: k8s.ProviderArgs, opts: pulumi.ResourceOptions | None = None) -> k8s.Provider:
    # What an interrupted `up` left is taken over (`infra.takeover`), with all its fields, which belong to the
    # field manager of a resource that the state never knew (`Creation` and `patchForce` in
    # provider/pkg/await/await.go of pulumi-kubernetes).
    args.upsert_existing_objects = True
    args.enable_patch_force = True
    return k8s.Provider(name, args, opts)


def _options(
    provider: k8s.Provider, reach: Callable[[], Awaitable[Any]], *, at_preview: bool
) -> pulumi.ResourceOptions:
    # Offline nobody is asked, and the client alone takes half a second to import.
    hooks = None if OFFLINE in os.environ else _hooks(reach, on_dry_run=at_preview)

    def prepare(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.type_.startswith(_TYPES_IN_A_CLUSTER):
            return None
        props = _owned(args.props) if args.type_ == _NAMESPACE else args.props
        opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(hooks=hooks))
        return pulumi.ResourceTransformationResult(props, opts)

    return pulumi.ResourceOptions(providers=[provider], transformations=[prepare])


def _hooks(reach: Callable[[], Awaitable[Any]], *, on_dry_run: bool) -> pulumi.ResourceHookBinding:
    from infra import takeover

    settings = pulumi.ResourceHookOptions(on_dry_run=on_dry_run)
    return pulumi.ResourceHookBinding(
        before_create=[pulumi.ResourceHook("before-create", takeover.before_create(reach), settings)],
        before_update=[pulumi.ResourceHook("before-update", takeover.before_update(reach), settings)],
    )


def _owned(props: Any) -> dict[str, Any]:
    """The properties of a namespace with the labels that say whose it is."""
    metadata = props["metadata"]
    labels = {**metadata.get("labels", {}), **namespaces.owner_labels()}
    return {**props, "metadata": {**metadata, "labels": labels}}
