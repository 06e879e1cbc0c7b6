"""A Job that compiles a service's graphs into the stack's cache before replicas need them.

Pulumi waits for Jobs, so the RayService, which depends on this one, finds a full cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s

from infra.bucket_layout import RAY_SERVICE_ACCOUNT
from infra.pod_security import restricted_container_manifest
from infra.service_config import LlmService
from serve_apps.llm.runners.neuronx_buckets import context_buckets, token_buckets
from workloads.network_policies import PRECOMPILE
from workloads.quantities import size
from workloads.ray_cluster import HUGGING_FACE_SECRET, HUGGING_FACE_TOKEN_KEY, bind_to_neuron_nodes
from workloads.service_plan import ServicePlan

_SCRIPT = Path(__file__).with_name("precompile_script.py")
_SETTINGS = "/opt/precompile"
_CONFIG_MAP = "precompile"
# The script has the service's own deadline. This one is for pods that never start, and does not follow the
# stack file: a Job that changes is run again.
_JOB_DEADLINE_S = 6 * 3600
# The condition of a pod that somebody evicts; its successor is no other try.
_NODE_GONE = {"type": "DisruptionTarget"}
_PULUMI_MARGIN_S = 300
_DIGEST_CHARS = 10
# Of the app's arguments, those that a compiled graph depends on.
_SHAPES = ("model", "dtype", "tensor_parallel", "slots", "max_model_len", "sampling")


def graphs_digest(plan: ServicePlan) -> str:
    """Hex digits over what the graphs depend on: model, shapes, and the image, which has the compiler.

    What the runner tells the library beyond the shapes is code, and a change of it is not seen here: replicas
    then compile themselves, as without a Job.
    """
    args, longest = plan.application["args"], plan.application["args"]["max_model_len"]
    shapes = {key: args[key] for key in _SHAPES}
    buckets = [context_buckets(longest), token_buckets(longest)]
    text = json.dumps([plan.service.image, shapes, buckets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]


def is_precompiled(plan: ServicePlan) -> bool:
    """Whether the service has such a Job."""
    return isinstance(plan.service, LlmService) and plan.service.precompile


@dataclass(frozen=True)
class PrecompileArgs:
    """`needs` is what the pod needs before it starts: account, secrets, network policies."""

    plan: ServicePlan
    namespace: pulumi.Input[str]
    needs: Sequence[pulumi.Resource]


class Precompile(pulumi.ComponentResource):
    """ConfigMap with script and settings, and the Job.

    The Job's specification holds nothing that changes without the graphs: that is in the ConfigMap, which a
    pod reads when it starts. It names the ConfigMap without taking a value from it, because Pulumi replaces a
    ConfigMap for its content, and with it whatever has a value from it.
    """

    job: k8s.batch.v1.Job

    def __init__(self, args: PrecompileArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:workloads:Precompile", args.plan.name, None, opts)
        self._plan = args.plan
        settings = k8s.core.v1.ConfigMap(
            f"{args.plan.name}-precompile",
            metadata={"name": _CONFIG_MAP, "namespace": args.namespace},
            data=self._settings(),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.job = self._job(args, settings)
        self.register_outputs({})

    def _settings(self) -> dict[str, str]:
        application = self._plan.application
        job = {
            "code_url": application["runtime_env"].get("working_dir"),
            "timeout_s": self._plan.service.start_timeout_seconds,
        }
        return {
            _SCRIPT.name: _SCRIPT.read_text(encoding="utf-8"),
            "args.json": json.dumps(application["args"], sort_keys=True),
            "job.json": json.dumps(job),
        }

    def _job(self, args: PrecompileArgs, settings: k8s.core.v1.ConfigMap) -> k8s.batch.v1.Job:
        wait_s = self._plan.service.start_timeout_seconds + _PULUMI_MARGIN_S
        return k8s.batch.v1.Job(
            f"{self._plan.name}-precompile",
            metadata={
                "name": f"precompile-{graphs_digest(self._plan)}",
                "namespace": args.namespace,
                # A Job that failed is run again by the next `up`.
                "annotations": {"pulumi.com/replaceUnready": "true"},
            },
            spec=cast("k8s.batch.v1.JobSpecArgsDict", job_spec(self._plan)),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[settings, *args.needs],
                # A name by content comes back, and what the engine still has to delete then must not be what
                # it has just made.
                delete_before_replace=True,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{wait_s}s", update=f"{wait_s}s"),
            ),
        )


def job_spec(plan: ServicePlan) -> dict[str, Any]:
    """The Job's specification, as it stands in a manifest."""
    template: dict[str, Any] = {
        "metadata": {"labels": PRECOMPILE},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": RAY_SERVICE_ACCOUNT,
            "automountServiceAccountToken": False,
            "volumes": [{"name": "settings", "configMap": {"name": _CONFIG_MAP}}],
            "containers": [_container(plan)],
        },
    }
    bind_to_neuron_nodes(template, plan.service.instance_type or "")
    return {
        # The first failure ends the Job, its words reach `pulumi up`, and the next `up` tries again. Not by a
        # `FailJob` rule: Pulumi's provider knows a failed Job by this limit and the deadline only, and would
        # wait on (collectJobConditionErrors in provider/pkg/await/checker/job/check.go of pulumi-kubernetes).
        "backoffLimit": 0,
        "activeDeadlineSeconds": _JOB_DEADLINE_S,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [_NODE_GONE]}]},
        "template": template,
    }


def _container(plan: ServicePlan) -> dict[str, Any]:
    # As large as a worker, which takes the node afterwards: weights in memory, and several compilers. No
    # device: nothing is computed.
    resources = size(plan.placement.worker_cpu_millis / 1000, plan.placement.worker_memory_mib)
    # Optional, so that a token that comes or goes changes nothing here.
    token = {"name": HUGGING_FACE_SECRET, "key": HUGGING_FACE_TOKEN_KEY, "optional": True}
    environment: list[dict[str, Any]] = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}}]
    if plan.bucket:
        environment.append({"name": "NEURON_COMPILE_CACHE_URL", "value": plan.bucket.compile_cache_url})
    return {
        "name": "precompile",
        "image": plan.service.image,
        "command": ["python", f"{_SETTINGS}/{_SCRIPT.name}"],
        "env": environment,
        "volumeMounts": [{"name": "settings", "mountPath": _SETTINGS, "readOnly": True}],
        # The last words reach the output of `pulumi up`.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": resources, "limits": resources},
        "securityContext": restricted_container_manifest(read_only_root=False),
    }
