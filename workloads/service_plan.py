"""What a stack's services come to, worked out before anything is registered.

A wrong value must leave nothing half-done, and the engine starts to create what a program registers while
the program still runs. So everything that can be refused is computed here, from plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml

from infra.bucket_layout import BucketLayout
from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.secrets_config import Secrets
from infra.service_base import ModelService
from infra.service_config import AnyService, LlmService
from workloads.availability import check_availability
from workloads.capacity import Demand, check_capacity
from workloads.cost import check_prices
from workloads.fit import Fit, replica_fit
from workloads.network_policies import Neighbours, neighbours, service_policies
from workloads.placement import Placement, place
from workloads.ray_cluster import HUGGING_FACE_SECRET, SecretNames, StoreAccess, ray_cluster
from workloads.release import release_id
from workloads.serve_config import serve_config, with_release

# After a switch the old Ray cluster stays this long, so that its last answers get out.
_OLD_CLUSTER_DELAY_S = 60


@dataclass(frozen=True)
class ServicePlan:
    """`spec` is the RayService's, `application` the service's entry in its Serve config.

    The spec lacks one value, the address of the store in its `gcsFaultToleranceOptions`. `network_policies`
    has specs by name.
    """

    name: str
    service: AnyService
    placement: Placement
    fit: Fit
    secrets: SecretNames
    store: StoreAccess | None
    bucket: BucketLayout | None
    spec: dict[str, Any]
    application: dict[str, Any]
    release: str
    network_policies: dict[str, dict[str, Any]]


def plan_services(
    stack: StackConfig, secrets: Secrets, *, bucket: BucketLayout | None, images: Mapping[str, str]
) -> dict[str, ServicePlan]:
    """A plan for every service. Raises `ConfigError` with the findings of all of them.

    `bucket` is the stack's own, on AWS; `images` has every service's.
    """
    store, around = _store_access(stack), neighbours(stack)
    plans: dict[str, ServicePlan] = {}
    findings: list[str] = []
    for name, service in stack.services.items():
        try:
            check_availability(name, service, stack)
            plans[name] = plan_service(
                name,
                service.model_copy(update={"image": images[name]}),
                _secret_names(service, secrets),
                store=store,
                bucket=bucket,
                around=around,
            )
        except ConfigError as error:
            findings += error.findings
    if findings:
        raise ConfigError(*findings)
    _log(_check_together(stack, plans), plans)
    for plan in plans.values():
        _warn_of_engine(plan)
    return plans


def demands(plans: Mapping[str, ServicePlan]) -> list[Demand]:
    """What the planned services ask of the node pools."""
    return [Demand(plan.name, plan.service, plan.placement) for plan in plans.values()]


def _check_together(stack: StackConfig, plans: Mapping[str, ServicePlan]) -> list[str]:
    """Warnings of what the services of a stack come to together. Raises `ConfigError`."""
    if stack.aws is None:
        return []
    check_prices(stack, demands(plans))
    return check_capacity(stack.aws, demands(plans))


def _log(warnings: Sequence[str], plans: Mapping[str, ServicePlan]) -> None:
    for warning in [*warnings, *(text for plan in plans.values() for text in plan.fit.warnings)]:
        pulumi.log.warn(warning)
    for note in (text for plan in plans.values() for text in plan.fit.notes):
        pulumi.log.info(note)


def _warn_of_engine(plan: ServicePlan) -> None:
    if plan.application.get("args", {}).get("engine") == "transformers-neuronx":
        pulumi.log.warn(
            f"services.{plan.name}.engine: transformers-neuronx is no longer supported upstream since Neuron "
            "SDK 2.26, 2025-09-16; it gets no fixes and its image stays at SDK 2.25"
        )


def plan_service(
    name: str,
    service: AnyService,
    secrets: SecretNames,
    *,
    store: StoreAccess | None = None,
    bucket: BucketLayout | None = None,
    around: Neighbours | None = None,
) -> ServicePlan:
    """Everything of one service that follows from the stack file. Raises `ConfigError`."""
    if bucket and service.code_url is None:
        service = service.model_copy(update={"code_url": bucket.code_url(service.app)})
    placement = place(name, service)
    fit = replica_fit(name, service, placement) if isinstance(service, LlmService) else Fit()
    cluster = ray_cluster(name, service, placement, secrets, store=store, bucket=bucket)
    config = serve_config(name, service, placement)
    release = release_id(config, cluster)
    config = with_release(config, release)
    spec = {
        # Clients reach worker pods only, so a dead head costs no request.
        "excludeHeadPodFromServeSvc": True,
        "rayClusterDeletionDelaySeconds": _OLD_CLUSTER_DELAY_S,
        "serveConfigV2": yaml.safe_dump(config, sort_keys=False),
        "rayClusterConfig": cluster,
    }
    return ServicePlan(
        name=name,
        service=service,
        placement=placement,
        fit=fit,
        secrets=secrets,
        store=store,
        bucket=bucket,
        spec=spec,
        application=config["applications"][0],
        release=release,
        network_policies=service_policies(service, around or Neighbours()),
    )


def _store_access(stack: StackConfig) -> StoreAccess | None:
    if stack.store.kind == "none":
        return None
    return StoreAccess("gcs-store", tls=stack.store.kind == "elasticache")


def _secret_names(service: AnyService, secrets: Secrets) -> SecretNames:
    needs_keys = isinstance(service, ModelService) and service.auth == "api-keys"
    return SecretNames(
        ray_auth="ray-auth",
        api_keys="api-keys" if needs_keys else None,
        hugging_face=HUGGING_FACE_SECRET if secrets.hugging_face_token is not None else None,
    )
