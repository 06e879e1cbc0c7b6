"""What Ray Serve would do to the replicas of an application for another config, by its own functions.

These are what its controller calls: the code version decides whether the application is built again, the
config is laid over what the code says, and the versions of the two outcomes tell what becomes of a replica.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ray.serve._private.application_state import override_deployment_info
from ray.serve._private.config import DeploymentConfig, ReplicaConfig
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve._private.deployment_state import DeploymentTargetState
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from workloads.effects import Effect


class _Replica:
    """A deployment's class as code would have it."""


def decisions(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Effect]:
    """What the change of a Serve config with one application does to each deployment that both have."""
    # A copy, because Serve's functions write into what they are given.
    configs = [ServeDeploySchema.model_validate(deepcopy(side)) for side in (before, after)]
    (old,), (new,) = (config.applications for config in configs)
    names = {deployment.name for deployment in old.deployments} & set(new.deployment_names)
    if get_app_code_version(old) != get_app_code_version(new):
        return dict.fromkeys(names, Effect.RELOAD_APPLICATION)
    old_infos, new_infos = (_infos(side) for side in (old, new))
    return {name: _decision(old_infos[name], new_infos[name]) for name in names}


def _infos(application: ServeApplicationSchema) -> dict[str, DeploymentInfo]:
    of_code = {
        name: DeploymentInfo(
            deployment_config=DeploymentConfig(),
            replica_config=ReplicaConfig.create(_Replica),
            start_time_ms=0,
            deployer_job_id="",
            version=get_app_code_version(application),
            route_prefix="/",
        )
        for name in application.deployment_names
    }
    return override_deployment_info(of_code, application)


def _decision(old: DeploymentInfo, new: DeploymentInfo) -> Effect:
    versions = [DeploymentTargetState.create(info, 1).version for info in (old, new)]
    restarts = versions[0].requires_actor_restart(versions[1])
    # DeploymentState.deploy returns before it looks at versions where this is false.
    noticed = old.config_changed(new) or old.route_prefix != new.route_prefix
    if restarts:
        return Effect.RELOAD if noticed else Effect.RELOAD_WITH_NEXT
    return Effect.IN_PLACE if noticed else Effect.NOTHING
