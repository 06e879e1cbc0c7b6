"""A Ray cluster of processes on this machine: a head without CPUs, and workers.

Nothing of it is shared with another Ray cluster on the machine: its ports are free ones, its temporary
directory is its own, addresses are always explicit, and `ray stop`, which ends them all, is never used.

The nodes have addresses of their own, by default in 127.0.0.0/8, because Ray replaces 127.0.0.1 by the
machine's outside address. Ray's gRPC servers listen on every interface all the same; a token guards them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from offline.ha.hosts import Hosts, Loopback
from offline.ha.store import Store
from offline.local.local_service import NodeShape
from offline.local.ports import free_ports
from offline.local.processes import Command
from workloads.node_lifecycle import VITAL_PROCESSES

HEAD = "ray-head"
WORKER = "ray-worker"
# Requests and answers travel by gRPC; the object store only has to exist.
_OBJECT_STORE_BYTES = 256 * 1024 * 1024
# What KubeRay sets on workers whose head keeps its state (DefaultWorkerRayGcsReconnectTimeoutS in
# ray-operator/controllers/ray/utils/constant.go, tag ray-operator/v1.7.0); Ray's own 60 s would end them.
_RECONNECT_TIMEOUT_S = 600


class RayCluster:
    """The commands that start the nodes, whose names are `HEAD` and those in `workers`.

    `app_env` is what the applications see on all of them. With a `store` a new head finds the state of the
    old one. Applications import from `code_dirs`.
    """

    def __init__(
        self,
        *,
        code_dirs: Sequence[Path],
        token_file: Path,
        dashboard_host: str,
        dashboard_port: int,
        app_env: Mapping[str, str],
        workers: tuple[str, ...] = (WORKER,),
        hosts: Hosts | None = None,
    ) -> None:
        self._dashboard = (dashboard_host, dashboard_port)
        self.workers = workers
        self.hosts = hosts or Loopback((HEAD, *workers))
        count = 2 + 3 * (1 + len(workers))
        self._gcs_port, self._client_port, *ports = free_ports(count, "127.0.0.1")
        nodes = (HEAD, *workers)
        self._agent_ports, self._proxy_ports, self._grpc_ports = (
            dict(zip(nodes, ports[place::3], strict=True)) for place in range(3)
        )
        # Short, because sockets lie in it and their paths may have 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="neuron-serve-", dir="/tmp"))
        self.store: Store | None = None
        self._env = _environment_without_ray() | {
            **app_env,
            "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, code_dirs), os.environ.get("PYTHONPATH")])),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray runs replicas at niceness 15, where they starve beside a browser or a test run.
            "RAY_worker_niceness": "0",
            # No Python processes in reserve for drivers: nothing here would use them.
            "RAY_prestart_worker_first_driver": "0",
        }
        self._starts: Counter[str] = Counter()

    @property
    def gcs_listens(self) -> bool:
        """Whether a worker can join."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.hosts.address(HEAD), self._gcs_port)) == 0

    @property
    def head_proxy_port(self) -> int:
        """For Serve's proxy on the head where the workers' ones are the way in."""
        return self._proxy_ports[HEAD]

    def proxies(self) -> dict[str, str]:
        """Where the proxies of the workers listen, `address:port` by name."""
        return {name: f"{self.hosts.reach(name)}:{self._proxy_ports[name]}" for name in self.workers}

    def head(self, env: Mapping[str, str]) -> Command:
        """A head that runs no replica, as in the stack, with the dashboard and its REST API."""
        host, port = self._dashboard
        options = [
            "--head",
            f"--port={self._gcs_port}",
            "--num-cpus=0",
            f"--dashboard-host={host}",
            f"--dashboard-port={port}",
            f"--ray-client-server-port={self._client_port}",
            # Nobody could add a node, so the autoscaler would be one more process for nothing.
            "--no-monitor",
        ]
        if self.store:
            options.append(f"--redis-password={self.store.password}")
            env = {
                **env,
                "RAY_REDIS_ADDRESS": self.store.address,
                "RAY_REDIS_CA_CERT": str(self.store.ca),
                "RAY_external_storage_namespace": self.directory.name,
            }
        return self._command(HEAD, options, env)

    def worker(self, shape: NodeShape, name: str = WORKER) -> Command:
        """A worker that advertises what the stack's worker group does."""
        options = [
            f"--address={self.hosts.host_name(HEAD)}:{self._gcs_port}",
            f"--num-cpus={shape.cpus}",
            f"--num-gpus={shape.gpus}",
            f"--resources={json.dumps(shape.resources)}",
        ]
        # The head's proxy has the ports of the Serve config.
        env = {
            **shape.env,
            # One process a CPU loads what each replica needs while the head still starts.
            "RAY_enable_worker_prestart": "1",
            "RAY_preload_python_modules": "ray.serve._private.replica",
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(self._proxy_ports[name]),
            "RAY_SERVE_WORKER_PROXY_GRPC_PORT": str(self._grpc_ports[name]),
        }
        if self.store:
            env["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(_RECONNECT_TIMEOUT_S)
        return self._command(name, options, env)

    def _command(self, name: str, options: list[str], env: Mapping[str, str]) -> Command:
        # A directory of its own each time: Ray takes a dead node's files for a running one.
        self._starts[name] += 1
        directory = self.directory / f"{name.removeprefix('ray-')}-{self._starts[name]}"
        argv = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        argv += [
            f"--node-ip-address={self.hosts.address(name)}",
            f"--dashboard-agent-listen-port={self._agent_ports[name]}",
            f"--temp-dir={directory}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            # Ports that nobody else has, instead of a range in which the user's own ports may lie.
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            "--log-color=false",
            "--block",
        ]
        vital = VITAL_PROCESSES["head" if name == HEAD else "worker"]
        return self.hosts.on(name, Command(name, argv, {**env, **self._env}, vital))


def _environment_without_ray() -> dict[str, str]:
    """A `RAY_ADDRESS` in the user's shell would lead to another cluster."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
