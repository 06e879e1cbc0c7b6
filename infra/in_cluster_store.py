"""The store of Ray's head (its GCS, the global control service) without AWS: one pod, for development."""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra import namespaces
from infra.drawn_secret import drawn_secret, value_of
from infra.pod_security import restricted_container

_NAME = "gcs-store"
_PORT = 6379
_PASSWORD = "password"  # noqa: S105 - the name of a key, not a password
_LABELS = {"app.kubernetes.io/name": _NAME}
# User and group `valkey` of the image
# (https://github.com/valkey-io/valkey-container/blob/00a2b211887fd46775bba37c554167a19783cca4/8.1/alpine/Dockerfile).
_USER, _GROUP = 999, 1000


@dataclass(frozen=True)
class InClusterStoreArgs:
    """`client_namespaces` are those whose Ray pods may connect.

    `auth_token` is the password; one is drawn, once, where it is None.
    """

    image: str
    client_namespaces: Sequence[str]
    auth_token: pulumi.Output[str] | None


class InClusterStore(pulumi.ComponentResource):
    """What survives the death of a Ray head, though not its own: if this pod goes, so does the state.

    - Namespace
    - Secret with the password
    - Deployment of one Valkey, which keeps its data over a restart of the container
    - Service
    - NetworkPolicy that admits Ray's pods and nothing else
    """

    port: int = _PORT
    address: pulumi.Output[str]
    """For KubeRay: `redis://HOST:PORT`."""
    auth_token: pulumi.Output[str]
    """Password, secret."""
    resources: list[pulumi.Resource]
    """What a Ray cluster needs until it is gone: at its end it removes its keys from the store."""

    def __init__(self, args: InClusterStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:InClusterStore", _NAME, None, opts)
        namespace = k8s.core.v1.Namespace(
            _NAME,
            metadata={"name": namespaces.STORE, "labels": namespaces.RESTRICTED},
            opts=pulumi.ResourceOptions(parent=self),
        ).metadata.name
        secret = self._secret(args, namespace)
        deployment = self._deployment(args, namespace, secret)
        service = self._service(namespace)
        self.resources = [deployment, service, self._network_policy(args, namespace)]
        self.address = service.metadata.apply(
            lambda metadata: f"redis://{metadata.name}.{metadata.namespace}.svc.cluster.local:{_PORT}"
        )
        self.auth_token = value_of(secret, _PASSWORD)
        self.register_outputs({"address": self.address})

    def _secret(self, args: InClusterStoreArgs, namespace: pulumi.Input[str]) -> k8s.core.v1.Secret:
        return drawn_secret(
            _NAME,
            # Without a name of its own: another password makes another Secret, and that another pod.
            metadata={"namespace": namespace},
            key=_PASSWORD,
            drawn=random.token_hex(32),
            given=args.auth_token,
            immutable=True,
            parent=self,
        )

    def _deployment(
        self, args: InClusterStoreArgs, namespace: pulumi.Input[str], secret: k8s.core.v1.Secret
    ) -> k8s.apps.v1.Deployment:
        return k8s.apps.v1.Deployment(
            _NAME,
            metadata={"name": _NAME, "namespace": namespace},
            spec={
                "replicas": 1,
                # Never two stores at a time, of which Ray would see now this one, now that one.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": _LABELS},
                "template": {
                    "metadata": {"labels": _LABELS},
                    "spec": {
                        "automount_service_account_token": False,
                        "security_context": {
                            "run_as_user": _USER,
                            "run_as_group": _GROUP,
                            "fs_group": _GROUP,
                        },
                        "containers": [_container(args.image, secret.metadata.name)],
                        "volumes": [{"name": "data", "empty_dir": {}}],
                    },
                },
            },
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _service(self, namespace: pulumi.Input[str]) -> k8s.core.v1.Service:
        return k8s.core.v1.Service(
            _NAME,
            metadata={"name": _NAME, "namespace": namespace},
            spec={"selector": _LABELS, "ports": [{"name": "redis", "port": _PORT, "target_port": _PORT}]},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _network_policy(
        self, args: InClusterStoreArgs, namespace: pulumi.Input[str]
    ) -> k8s.networking.v1.NetworkPolicy:
        return k8s.networking.v1.NetworkPolicy(
            _NAME,
            metadata={"name": _NAME, "namespace": namespace},
            spec={
                "pod_selector": {"match_labels": _LABELS},
                # No rule for the way out: it answers and calls nobody.
                "policy_types": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from_": [
                            {
                                # Set by Kubernetes itself, so that no pod can claim to be elsewhere.
                                "namespace_selector": {
                                    "match_expressions": [
                                        {
                                            "key": "kubernetes.io/metadata.name",
                                            "operator": "In",
                                            "values": sorted(args.client_namespaces),
                                        }
                                    ]
                                },
                                # KubeRay's label of all pods of a Ray cluster, its clean-up Job's too.
                                "pod_selector": {"match_labels": {"ray.io/is-ray-node": "yes"}},
                            }
                        ],
                        "ports": [{"protocol": "TCP", "port": _PORT}],
                    }
                ],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )


def _container(image: str, secret_name: pulumi.Input[str]) -> k8s.core.v1.ContainerArgsDict:
    return {
        "name": "valkey",
        "image": image,
        # Every write goes to the file, because a snapshot would lack the last minutes.
        "command": ["valkey-server", "--requirepass", "$(PASSWORD)", "--appendonly", "yes", "--save", ""],
        "working_dir": "/data",
        "env": [
            {
                "name": "PASSWORD",
                "value_from": {"secret_key_ref": {"name": secret_name, "key": _PASSWORD}},
            }
        ],
        "ports": [{"name": "redis", "container_port": _PORT}],
        "readiness_probe": {"tcp_socket": {"port": _PORT}},
        "volume_mounts": [{"name": "data", "mount_path": "/data"}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "security_context": restricted_container(read_only_root=True),
    }
