"""The gate of a roll-out: a Job that succeeds when one release of a service answers a real question.

Pulumi waits for Jobs, so `pulumi up` returns when the release serves and fails with the application's own
words when it cannot. A wait on the RayService itself would not do: its Ready condition stays true through a
roll-out, and on a first start with a broken model it would run into its time-out without a reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from infra.pod_security import restricted_container
from infra.service_base import ModelService
from workloads.network_policies import RELEASE_CHECK
from workloads.ray_cluster import API_KEYS_DIRECTORY, CLIENT_KEY, RAY_AUTH_KEY
from workloads.service_plan import ServicePlan

_SCRIPT = Path(__file__).with_name("release_check_script.py")
# The Job outlives the script's own deadline, and Pulumi outlives the Job, so that the script speaks last.
_JOB_MARGIN_S = 60
_PULUMI_MARGIN_S = 300


@dataclass(frozen=True)
class ReleaseCheckArgs:
    """What is checked: the release of a plan, once the RayService is registered.

    `store_address` is that of the head's store, None without one.
    """

    plan: ServicePlan
    namespace: pulumi.Input[str]
    ray_service: pulumi.Resource
    store_address: pulumi.Output[str] | None = None


class ReleaseCheck(pulumi.ComponentResource):
    """Service account, role and binding (read this RayService and the namespace's pods), script, Job."""

    def __init__(self, args: ReleaseCheckArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:ReleaseCheck", args.plan.name, None, opts)
        account = self._account(args)
        script = self._script(args)
        self._job(args, account, script)
        self.register_outputs({})

    def _account(self, args: ReleaseCheckArgs) -> k8s.core.v1.ServiceAccount:
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {"name": "release-check", "namespace": args.namespace}
        own = pulumi.ResourceOptions(parent=self)
        account = k8s.core.v1.ServiceAccount(f"{args.plan.name}-release-check", metadata=metadata, opts=own)
        role = k8s.rbac.v1.Role(
            f"{args.plan.name}-release-check",
            metadata=metadata,
            rules=[
                {
                    "api_groups": ["ray.io"],
                    "resources": ["rayservices"],
                    "resource_names": [args.plan.name],
                    "verbs": ["get"],
                },
                # Why a pod does not start (no capacity, no image) stands in the pod.
                {"api_groups": [""], "resources": ["pods"], "verbs": ["list"]},
            ],
            opts=own,
        )
        k8s.rbac.v1.RoleBinding(
            f"{args.plan.name}-release-check",
            metadata=metadata,
            role_ref={
                "api_group": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": role.metadata.name,
            },
            subjects=[
                {
                    "kind": "ServiceAccount",
                    "name": account.metadata.name,
                    "namespace": args.namespace,
                }
            ],
            opts=own,
        )
        return account

    def _script(self, args: ReleaseCheckArgs) -> k8s.core.v1.ConfigMap:
        return k8s.core.v1.ConfigMap(
            f"{args.plan.name}-release-check",
            metadata={"name": "release-check", "namespace": args.namespace},
            data={_SCRIPT.name: _SCRIPT.read_text(encoding="utf-8")},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _job(
        self, args: ReleaseCheckArgs, account: k8s.core.v1.ServiceAccount, script: k8s.core.v1.ConfigMap
    ) -> k8s.batch.v1.Job:
        timeout_s = args.plan.service.start_timeout_seconds
        wait_s = timeout_s + _JOB_MARGIN_S + _PULUMI_MARGIN_S
        return k8s.batch.v1.Job(
            f"{args.plan.name}-release-check",
            metadata={
                # A Job cannot be changed, so every release has one of its own.
                "name": f"release-{args.plan.release}",
                "namespace": args.namespace,
                "annotations": {
                    # A Job that failed is run again by the next `up`.
                    "pulumi.com/replaceUnready": "true",
                },
            },
            spec={
                "backoff_limit": 0,
                "active_deadline_seconds": timeout_s + _JOB_MARGIN_S,
                "template": {
                    "metadata": _pod_metadata(args),
                    "spec": self._pod(args, account, script),
                },
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[args.ray_service, *self._own_resources()],
                custom_timeouts=pulumi.CustomTimeouts(create=f"{wait_s}s", update=f"{wait_s}s"),
            ),
        )

    def _own_resources(self) -> list[pulumi.Resource]:
        # The binding has to exist before the pod asks, though no value flows from it.
        return list(self._childResources)

    def _pod(
        self, args: ReleaseCheckArgs, account: k8s.core.v1.ServiceAccount, script: k8s.core.v1.ConfigMap
    ) -> k8s.core.v1.PodSpecArgsDict:
        volumes: list[k8s.core.v1.VolumeArgsDict] = [
            {"name": "script", "config_map": {"name": script.metadata.name}}
        ]
        mounts: list[k8s.core.v1.VolumeMountArgsDict] = [
            {"name": "script", "mount_path": "/opt/release-check", "read_only": True}
        ]
        if args.plan.secrets.api_keys:
            keys: k8s.core.v1.SecretVolumeSourceArgsDict = {
                "secret_name": args.plan.secrets.api_keys,
                "items": [{"key": CLIENT_KEY, "path": CLIENT_KEY}],
            }
            volumes.append({"name": "api-keys", "secret": keys})
            mounts.append({"name": "api-keys", "mount_path": API_KEYS_DIRECTORY, "read_only": True})
        return {
            "restart_policy": "Never",
            "service_account_name": account.metadata.name,
            "volumes": volumes,
            "containers": [
                {
                    "name": "release-check",
                    "image": args.plan.service.image,
                    "command": ["python", f"/opt/release-check/{_SCRIPT.name}"],
                    "env": _environment(args),
                    "volume_mounts": mounts,
                    # The script's last words reach the output of `pulumi up`.
                    "termination_message_policy": "FallbackToLogsOnError",
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi"},
                        "limits": {"memory": "256Mi"},
                    },
                    "security_context": restricted_container(read_only_root=True),
                }
            ],
        }


def _pod_metadata(args: ReleaseCheckArgs) -> k8s.meta.v1.ObjectMetaArgsDict:
    metadata: k8s.meta.v1.ObjectMetaArgsDict = {"labels": RELEASE_CHECK}
    if args.store_address is not None:
        # Another store is another Ray cluster for the same release. The check has to see that one, too,
        # before Pulumi takes the old store away from the old one.
        metadata["annotations"] = {"neuron-serve/gcs-store": args.store_address}
    return metadata


def _environment(args: ReleaseCheckArgs) -> list[k8s.core.v1.EnvVarArgsDict]:
    application = args.plan.application
    expected = {key: application[key] for key in ("import_path", "args", "runtime_env")}
    plain: dict[str, pulumi.Input[str]] = {
        "RAY_SERVICE": args.plan.name,
        "NAMESPACE": args.namespace,
        "RELEASE": args.plan.release,
        "EXPECTED_APPLICATION": json.dumps(expected, sort_keys=True),
        "APP": args.plan.service.app,
        "MODEL": application["args"]["served_name"] if isinstance(args.plan.service, ModelService) else "",
        "TIMEOUT_S": str(args.plan.service.start_timeout_seconds),
        "API_KEYS_FILE": f"{API_KEYS_DIRECTORY}/{CLIENT_KEY}" if args.plan.secrets.api_keys else "",
    }
    token: k8s.core.v1.EnvVarSourceArgsDict = {
        "secret_key_ref": {"name": args.plan.secrets.ray_auth, "key": RAY_AUTH_KEY}
    }
    variables: list[k8s.core.v1.EnvVarArgsDict] = [
        {"name": name, "value": value} for name, value in plain.items()
    ]
    return [*variables, {"name": "RAY_AUTH_TOKEN", "value_from": token}]
