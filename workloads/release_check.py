"""The gate of a roll-out: a Job that succeeds when one release of a service is in force and answers.

Pulumi waits for Jobs, so `pulumi up` returns when the release serves and fails with the application's own
words when it cannot. A wait on the RayService itself would not do: its Ready condition stays true through a
roll-out, and on a first start with a broken model it would run into its time-out without a reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra import image_pulls
from infra.pod_security import restricted_container
from infra.service_base import ModelService
from workloads.network_policies import RELEASE_CHECK
from workloads.ray_cluster import API_KEYS_DIRECTORY, CLIENT_KEY, RAY_AUTH_KEY
from workloads.service_plan import ServicePlan

_SCRIPT = Path(__file__).with_name("release_check_script")
_FILES = [*sorted(_SCRIPT.glob("*.py")), Path(image_pulls.__file__)]
_DIRECTORY = "/opt/check"
_EXPECTED = "expected.json"
# The Job outlives the script's own deadline, and Pulumi outlives the Job, so that the script speaks last.
_JOB_MARGIN_S = 60
_PULUMI_MARGIN_S = 300


@dataclass(frozen=True)
class ReleaseCheckArgs:
    """What is checked: the release of a plan.

    `store_address` is that of the head's store, None without one.
    """

    plan: ServicePlan
    namespace: pulumi.Input[str]
    store_address: pulumi.Output[str] | None = None


class ReleaseCheck(pulumi.ComponentResource):
    """Service account, role, binding, and two objects that have no names of their own:

    - ConfigMap, what is to be in force and the script. It is made before the RayService changes, and anew for
      whatever else is to be in force.
    - Job, made by `run_after`. It mounts the ConfigMap by name, so that a new ConfigMap is a new Job: what is
      to serve is asked each time, also where an `up` was killed between RayService and Job and the stack file
      went back since.

    Pulumi draws their names, so that none is ever in the way of another: the engine makes the new one before
    it deletes the old one, which may have been the same release.
    """

    def __init__(self, args: ReleaseCheckArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:ReleaseCheck", args.plan.name, None, opts)
        self._args = args
        self._account, self._binding = self._rights()
        self.expected = self._config_map()
        """What the RayService depends on."""
        self.register_outputs({})

    def run_after(self, ray_service: pulumi.Resource) -> k8s.batch.v1.Job:
        """The Job, which waits for what the RayService brings."""
        timeout_s = self._args.plan.service.start_timeout_seconds
        wait_s = timeout_s + _JOB_MARGIN_S + _PULUMI_MARGIN_S
        return k8s.batch.v1.Job(
            self._drawn_name,
            metadata={
                "namespace": self._args.namespace,
                "labels": RELEASE_CHECK,
                # A Job that failed is run again by the next `up`.
                "annotations": {"pulumi.com/replaceUnready": "true"},
            },
            spec={
                "backoff_limit": 0,
                "active_deadline_seconds": timeout_s + _JOB_MARGIN_S,
                "template": {"metadata": {"labels": RELEASE_CHECK}, "spec": self._pod()},
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                # The binding has to exist before the pod asks, though no value flows from it.
                depends_on=[ray_service, self._binding],
                custom_timeouts=pulumi.CustomTimeouts(create=f"{wait_s}s", update=f"{wait_s}s"),
            ),
        )

    @property
    def _drawn_name(self) -> str:
        # With what Pulumi adds (8 characters) and the longest name of a service (47) it stays below the 63 of
        # a label, in which Kubernetes repeats a Job's name.
        return f"{self._args.plan.name}-check"

    def _rights(self) -> tuple[k8s.core.v1.ServiceAccount, k8s.rbac.v1.RoleBinding]:
        name = f"{self._args.plan.name}-release-check"
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": "release-check",
            "namespace": self._args.namespace,
        }
        own = pulumi.ResourceOptions(parent=self)
        account = k8s.core.v1.ServiceAccount(name, metadata=metadata, opts=own)
        role = k8s.rbac.v1.Role(name, metadata=metadata, rules=_rules(self._args.plan.name), opts=own)
        binding = k8s.rbac.v1.RoleBinding(
            name,
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
                    "namespace": self._args.namespace,
                }
            ],
            opts=own,
        )
        return account, binding

    def _config_map(self) -> k8s.core.v1.ConfigMap:
        script = {_key(path): text for path, text in script_files().items()}
        # Another store is another Ray cluster for the same release. The check has to see that one, too,
        # before Pulumi takes the old store away from the old one.
        address = pulumi.Output.from_input(self._args.store_address or "")
        expected = address.apply(lambda store: json.dumps(expectations(self._args.plan, store), indent=2))
        return k8s.core.v1.ConfigMap(
            self._drawn_name,
            metadata={"namespace": self._args.namespace},
            immutable=True,
            data={**script, _EXPECTED: expected},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _pod(self) -> k8s.core.v1.PodSpecArgsDict:
        secrets = self._args.plan.secrets
        # In packages again: a ConfigMap has no folders.
        items: list[k8s.core.v1.KeyToPathArgsDict] = [
            {"key": _key(path), "path": path} for path in script_files()
        ]
        items.append({"key": _EXPECTED, "path": _EXPECTED})
        volumes: list[k8s.core.v1.VolumeArgsDict] = [
            {"name": "check", "config_map": {"name": self.expected.metadata.name, "items": items}}
        ]
        mounts: list[k8s.core.v1.VolumeMountArgsDict] = [
            {"name": "check", "mount_path": _DIRECTORY, "read_only": True}
        ]
        # Secrets are optional here, so that the check can tell of the pods that wait for one in vain.
        if secrets.api_keys:
            keys: k8s.core.v1.SecretVolumeSourceArgsDict = {
                "secret_name": secrets.api_keys,
                "items": [{"key": CLIENT_KEY, "path": CLIENT_KEY}],
                "optional": True,
            }
            volumes.append({"name": "api-keys", "secret": keys})
            mounts.append({"name": "api-keys", "mount_path": API_KEYS_DIRECTORY, "read_only": True})
        container: k8s.core.v1.ContainerArgsDict = {
            "name": "release-check",
            "image": self._args.plan.service.image,
            "command": ["python", "-m", _SCRIPT.name],
            "working_dir": _DIRECTORY,
            "env": self._environment(f"{_DIRECTORY}/{_EXPECTED}"),
            "volume_mounts": mounts,
            # The script leaves its last words for `pulumi up`; where it cannot, its log has to do.
            "termination_message_policy": "FallbackToLogsOnError",
            "resources": {
                "requests": {"cpu": "50m", "memory": "64Mi"},
                "limits": {"memory": "256Mi"},
            },
            "security_context": restricted_container(read_only_root=True),
        }
        return {
            "restart_policy": "Never",
            "service_account_name": self._account.metadata.name,
            "volumes": volumes,
            "containers": [container],
        }

    def _environment(self, expected: str) -> list[k8s.core.v1.EnvVarArgsDict]:
        secrets = self._args.plan.secrets
        plain: dict[str, pulumi.Input[str]] = {
            "NAMESPACE": self._args.namespace,
            "EXPECTED": expected,
            "API_KEYS_FILE": f"{API_KEYS_DIRECTORY}/{CLIENT_KEY}" if secrets.api_keys else "",
        }
        token: k8s.core.v1.EnvVarSourceArgsDict = {
            "secret_key_ref": {"name": secrets.ray_auth, "key": RAY_AUTH_KEY, "optional": True}
        }
        job: k8s.core.v1.EnvVarSourceArgsDict = {
            "field_ref": {"field_path": "metadata.labels['batch.kubernetes.io/job-name']"}
        }
        variables: list[k8s.core.v1.EnvVarArgsDict] = [
            {"name": name, "value": value} for name, value in plain.items()
        ]
        return [
            *variables,
            {"name": "RAY_AUTH_TOKEN", "value_from": token},
            {"name": "JOB", "value_from": job},
        ]


def expectations(plan: ServicePlan, store_address: str) -> dict[str, Any]:
    """What the script holds a service against: all that is to be in force when it succeeds."""
    application = plan.application
    return {
        "service": plan.name,
        "release": plan.release,
        "store_address": store_address,
        # As Ray has to report it, deployments and their replicas included.
        "application": application,
        "app": plan.service.app,
        # The model to ask; none for applications without our API.
        "model": application["args"]["served_name"] if isinstance(plan.service, ModelService) else "",
        "timeout_s": plan.service.start_timeout_seconds,
    }


def script_files() -> dict[str, str]:
    """The script as it lies in the pod: texts by path. Its packages are those of this project, cut down."""
    return {f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in _FILES}


def _key(path: str) -> str:
    return path.replace("/", ".")


def _rules(ray_service: str) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    return [
        {
            "api_groups": ["ray.io"],
            "resources": ["rayservices"],
            "resource_names": [ray_service],
            "verbs": ["get"],
        },
        # Why a pod does not start (no capacity, no image, no secret, a crash) stands in these.
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"api_groups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"api_groups": [""], "resources": ["events"], "verbs": ["list"]},
        # Checks that an `up` left behind when it was killed.
        {"api_groups": ["batch"], "resources": ["jobs"], "verbs": ["list", "delete"]},
    ]
