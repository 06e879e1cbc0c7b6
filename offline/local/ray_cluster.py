"""A Ray cluster of processes on this machine: a head without CPUs and one worker.

Nothing of it is shared with another Ray cluster on the machine: its ports are free ones, its temporary
directory is its own, addresses are always explicit, and `ray stop`, which ends them all, is never used.

The two nodes have addresses of their own in 127.0.0.0/8, because Ray replaces 127.0.0.1 by the machine's
outside address. Ray's gRPC servers listen on every interface all the same; a token guards them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from offline.local.local_service import NodeShape
from offline.local.ports import free_ports
from offline.local.processes import Command

_HEAD_IP = "127.0.0.2"
_WORKER_IP = "127.0.0.3"
# Requests and answers travel by gRPC; the object store only has to exist.
_OBJECT_STORE_BYTES = 256 * 1024 * 1024


class RayCluster:
    """The commands that start the nodes.

    `app_env` is what the applications see on both of them, `code_dirs` where they import from.
    """

    def __init__(
        self,
        *,
        code_dirs: Sequence[Path],
        token_file: Path,
        dashboard_host: str,
        dashboard_port: int,
        app_env: Mapping[str, str],
    ) -> None:
        self._dashboard = (dashboard_host, dashboard_port)
        self._gcs_port, self._client_port, self._proxy_port, *self._agent_ports = free_ports(5, _HEAD_IP)
        # Short, because sockets lie in it and their paths may have 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="neuron-serve-", dir="/tmp"))
        self._env = _environment_without_ray() | {
            **app_env,
            "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, code_dirs), os.environ.get("PYTHONPATH")])),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray runs replicas at niceness 15, where they starve beside a browser or a test run.
            "RAY_worker_niceness": "0",
            # Python processes in reserve, one a CPU: nothing here would use them.
            "RAY_enable_worker_prestart": "0",
            "RAY_prestart_worker_first_driver": "0",
        }
        self._workers_started = 0

    @property
    def gcs_listens(self) -> bool:
        """Whether a worker can join."""
        with socket.socket() as probe:
            return probe.connect_ex((_HEAD_IP, self._gcs_port)) == 0

    def head(self, env: Mapping[str, str]) -> Command:
        """A head that runs no replica, as in the stack, with the dashboard and its REST API."""
        host, port = self._dashboard
        options = [
            "--head",
            f"--node-ip-address={_HEAD_IP}",
            f"--port={self._gcs_port}",
            "--num-cpus=0",
            f"--dashboard-host={host}",
            f"--dashboard-port={port}",
            f"--ray-client-server-port={self._client_port}",
            # Nobody could add a node, so the autoscaler would be one more process for nothing.
            "--no-monitor",
            f"--dashboard-agent-listen-port={self._agent_ports[0]}",
        ]
        return self._command("ray-head", options, env, self.directory / "head")

    def worker(self, shape: NodeShape) -> Command:
        """A worker that advertises what the stack's worker group does."""
        self._workers_started += 1
        options = [
            f"--address={_HEAD_IP}:{self._gcs_port}",
            f"--node-ip-address={_WORKER_IP}",
            f"--num-cpus={shape.cpus}",
            f"--num-gpus={shape.gpus}",
            f"--resources={json.dumps(shape.resources)}",
            f"--dashboard-agent-listen-port={self._agent_ports[1]}",
        ]
        # The API is the head's proxy, which stays when a worker dies; the worker's takes another port.
        env = {**shape.env, "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(self._proxy_port)}
        # A directory of its own each time: Ray takes a dead node's files for a running one.
        return self._command("ray-worker", options, env, self.directory / f"worker-{self._workers_started}")

    def _command(self, name: str, options: list[str], env: Mapping[str, str], temp_dir: Path) -> Command:
        argv = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        argv += [
            f"--temp-dir={temp_dir}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            # Ports that nobody else has, instead of a range in which the user's own ports may lie.
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            "--log-color=false",
            "--block",
        ]
        return Command(name, argv, {**env, **self._env})


def _environment_without_ray() -> dict[str, str]:
    """A `RAY_ADDRESS` in the user's shell would lead to another cluster."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
