"""What Ray Serve reports of an application, held against what is to be in force.

The shapes are those of `ApplicationDetails` and `DeploymentDetails` in ray/serve/schema.py, 2.60.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .words import last_words

Status = Mapping[str, Any]


def not_in_force(expected: Status, application: Status | None) -> str | None:
    """What is missing until the expected application serves as it should, None if it does.

    `deployed_app_config` is "the exact copy of the application config that was submitted". An application is
    RUNNING once no replica of an older version is left (`check_curr_status` in
    ray/serve/_private/deployment_state.py), but it is RUNNING, too, while Serve scales by itself.
    """
    if application is None or application.get("deployed_app_config") != expected:
        return "waiting for Ray Serve to take up this release"
    if application["status"] != "RUNNING":
        return f"Ray Serve is {application['status']}: {own_words(application)}"
    options = {each["name"]: each for each in expected.get("deployments") or []}
    deployments: Status = application.get("deployments") or {}
    for name in options.keys() | deployments.keys():
        if missing := _replicas_missing(name, options.get(name, {}), deployments.get(name)):
            return missing
    return None


def _replicas_missing(name: str, options: Status, deployment: Status | None) -> str | None:
    if deployment is None:
        return f"waiting for the deployment {name}"
    target: int = deployment["target_num_replicas"]
    if not options.keys() & {"num_replicas", "autoscaling_config"}:
        # The code says how many, not the stack file.
        options = deployment.get("deployment_config") or {}
    running = sum(replica["state"] == "RUNNING" for replica in deployment.get("replicas") or [])
    fewest, most = replica_bounds(options, target)
    if fewest <= min(running, target) and max(running, target) <= most:
        return None
    wanted = str(most) if fewest == most else f"{fewest} to {most:g}"
    return f"{name} has {running} replicas that run and is on its way to {target}; {wanted} are to run"


def replica_bounds(options: Status, target: int) -> tuple[int, float]:
    """Fewest and most replicas with such options of a deployment; its target where they say nothing."""
    scaling = options.get("autoscaling_config")
    if scaling or options.get("num_replicas") == "auto":
        scaling = scaling or {}
        return scaling.get("min_replicas", 1), scaling.get("max_replicas", float("inf"))
    number = options.get("num_replicas") or target
    return number, number


def own_words(application: Status) -> str:
    """The sentences of the deployments that are not healthy, or the application's own."""
    names: dict[str, list[str]] = {}
    for name, deployment in (application.get("deployments") or {}).items():
        if deployment.get("status") != "HEALTHY" and (
            sentence := last_words(deployment.get("message") or "")
        ):
            names.setdefault(sentence, []).append(name)
    words = [f"{', '.join(sorted(of))}: {sentence}" for sentence, of in names.items()]
    return "; ".join(words) or last_words(application.get("message") or "") or "no message yet"


def whole_report(application: Status) -> str:
    """Everything that Ray says of a failure, tracebacks and all."""
    deployments = (application.get("deployments") or {}).values()
    messages = [application.get("message"), *(each.get("message") for each in deployments)]
    return "\n".join(message for message in messages if message)
