"""A service of the stack: namespace, secrets, RayService, and the check that its release answers.

`service_plan` has worked out every plain value; here it is registered with what it needs to live and, when it
is deleted, to die in peace.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces
from infra.bucket_layout import RAY_SERVICE_ACCOUNT
from infra.drawn_secret import drawn_secret
from infra.gcs_store import GcsStore
from infra.in_cluster_store import InClusterStore
from infra.network_policy import register_policies
from infra.service_base import ModelService
from workloads.api_keys import StackApiKeys
from workloads.disruption_budgets import DisruptionBudgets, DisruptionBudgetsArgs
from workloads.precompile import Precompile, PrecompileArgs, is_precompiled
from workloads.ray_cluster import (
    API_KEYS_KEY,
    CLIENT_KEY,
    GCS_STORE_PASSWORD_KEY,
    HUGGING_FACE_TOKEN_KEY,
    RAY_AUTH_KEY,
)
from workloads.release_check import ReleaseCheck, ReleaseCheckArgs
from workloads.serve_config import SERVE_PORT
from workloads.service_plan import ServicePlan
from workloads.upgrade import upgrade_options

# Deleting waits for requests in flight and, with a Redis, for the operator's clean-up of its keys.
_DELETE_TIMEOUT = "30m"
# What KubeRay gives the job that removes the keys (constant.go, RAYCLUSTER_GCS_FT_DELETION_TIMEOUT_DEFAULT).
_CLEAN_UP_S = 300


@dataclass(frozen=True)
class RayServiceArgs:
    """`platform` is what every pod of the service needs until it is gone: operator, nodes, bucket, identity.

    `gcs_store` is the store that the plan counts with, None where it counts with none.
    """

    plan: ServicePlan
    api_keys: StackApiKeys | None
    hugging_face_token: pulumi.Output[str] | None
    platform: Sequence[pulumi.Resource]
    gcs_store: GcsStore | InClusterStore | None = None


class RayService(pulumi.ComponentResource):
    """A model service. Its resources, in the order in which they are made:

    - Namespace, the fence: it depends on the platform, and its deletion returns only when every pod in it is
      gone. Nothing in it uses `deleted_with`, which would skip that wait.
    - Secrets: Ray's token, and where the stack has them API keys, Hugging Face token, the store's password
    - ServiceAccount, on AWS
    - NetworkPolicies
    - Precompile, where the stack file asks for it
    - ReleaseCheck, which says what is to be in force
    - RayService (`ray.io/v1`)
    - the Job of the ReleaseCheck, which sees to it that it is
    - DisruptionBudgets
    """

    url: pulumi.Output[str]
    """Address of the API inside the cluster, ending in `/v1` for chat models."""

    def __init__(self, name: str, args: RayServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:RayService", name, None, opts)
        self._name = name
        namespace = self._namespace(args)
        needed = [
            *self._secrets(args, namespace),
            *self._service_account(args.plan, namespace),
            # They outlive the RayService, whose clean-up job has to reach the store.
            *register_policies(name, namespace.metadata.name, args.plan.network_policies, self),
        ]
        if is_precompiled(args.plan):
            of_job = PrecompileArgs(args.plan, namespace.metadata.name, needed)
            needed = [*needed, Precompile(of_job, pulumi.ResourceOptions(parent=self)).job]
        store_address = args.gcs_store.address if args.gcs_store else None
        check = ReleaseCheck(
            ReleaseCheckArgs(args.plan, namespace.metadata.name, store_address),
            opts=pulumi.ResourceOptions(parent=self),
        )
        custom_resource = self._custom_resource(args, namespace, [*needed, check.expected])
        DisruptionBudgets(
            DisruptionBudgetsArgs(args.plan, namespace.metadata.name, check.run_after(custom_resource)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        suffix = "/v1" if isinstance(args.plan.service, ModelService) else ""
        self.release = args.plan.release
        self.url = namespace.metadata.name.apply(
            lambda namespace: f"http://{name}-serve-svc.{namespace}.svc.cluster.local:{SERVE_PORT}{suffix}"
        )
        self.register_outputs({"url": self.url, "release": self.release})

    def _namespace(self, args: RayServiceArgs) -> k8s.core.v1.Namespace:
        return k8s.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={"name": self._name, "labels": namespaces.RESTRICTED},
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.platform, *(args.gcs_store.resources if args.gcs_store else [])],
                custom_timeouts=pulumi.CustomTimeouts(delete=_DELETE_TIMEOUT),
            ),
        )

    def _secrets(self, args: RayServiceArgs, namespace: k8s.core.v1.Namespace) -> list[pulumi.Resource]:
        names = args.plan.secrets
        ray_auth = drawn_secret(
            f"{self._name}-{names.ray_auth}",
            metadata={"name": names.ray_auth, "namespace": namespace.metadata.name},
            key=RAY_AUTH_KEY,
            drawn=random.token_urlsafe(32),
            parent=self,
        )
        made: list[pulumi.Resource] = [ray_auth]
        store, password = args.plan.store, args.gcs_store.auth_token if args.gcs_store else None
        if names.api_keys and args.api_keys:
            values = {API_KEYS_KEY: args.api_keys.hashed, CLIENT_KEY: args.api_keys.client}
            made.append(self._secret(names.api_keys, namespace, values))
        for name, key, value in (
            (store.secret if store else None, GCS_STORE_PASSWORD_KEY, password),
            (names.hugging_face, HUGGING_FACE_TOKEN_KEY, args.hugging_face_token),
        ):
            if name and value is not None:
                made.append(self._secret(name, namespace, {key: value}))
        return made

    def _secret(
        self, name: str, namespace: k8s.core.v1.Namespace, values: dict[str, pulumi.Output[str]]
    ) -> k8s.core.v1.Secret:
        return k8s.core.v1.Secret(
            f"{self._name}-{name}",
            metadata={"name": name, "namespace": namespace.metadata.name},
            string_data=values,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _service_account(self, plan: ServicePlan, namespace: k8s.core.v1.Namespace) -> list[pulumi.Resource]:
        if plan.bucket is None:
            return []
        account = k8s.core.v1.ServiceAccount(
            f"{self._name}-{RAY_SERVICE_ACCOUNT}",
            metadata={"name": RAY_SERVICE_ACCOUNT, "namespace": namespace.metadata.name},
            opts=pulumi.ResourceOptions(parent=self),
        )
        return [account]

    def _custom_resource(
        self,
        args: RayServiceArgs,
        namespace: k8s.core.v1.Namespace,
        needed: Sequence[pulumi.Resource],
    ) -> k8s.apiextensions.CustomResource:
        return k8s.apiextensions.CustomResource(
            self._name,
            api_version="ray.io/v1",
            kind="RayService",
            metadata={
                "name": self._name,
                "namespace": namespace.metadata.name,
                "annotations": {
                    # The operator rewrites part of the spec, and without this server-side apply refuses
                    # every later update as a conflict.
                    "pulumi.com/patchForce": "true",
                    **_store_patience(args.plan),
                },
            },
            spec=_spec(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(needed),
                custom_timeouts=pulumi.CustomTimeouts(delete=_DELETE_TIMEOUT),
                **upgrade_options(args.plan.service),
            ),
        )


def _store_patience(plan: ServicePlan) -> dict[str, str]:
    """How long KubeRay may take to remove a deleted cluster's keys from the store, seconds, as an annotation.

    It counts from the deletion, five minutes by default, and the head may wait that long for its workers: the
    keys would stay (getGCSFTDeletionTimeout in ray-operator/controllers/ray/raycluster_controller.go, tag
    ray-operator/v1.7.0, which copies a RayService's annotations to its clusters).
    """
    if plan.store is None:
        return {}
    head = plan.spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    return {"ray.io/gcs-ft-deletion-timeout": str(head["terminationGracePeriodSeconds"] + _CLEAN_UP_S)}


def _spec(args: RayServiceArgs) -> dict[str, Any]:
    """The plan's spec with the store's address."""
    if args.gcs_store is None:
        return args.plan.spec
    cluster = args.plan.spec["rayClusterConfig"]
    options = cluster["gcsFaultToleranceOptions"] | {"redisAddress": args.gcs_store.address}
    return args.plan.spec | {"rayClusterConfig": cluster | {"gcsFaultToleranceOptions": options}}
