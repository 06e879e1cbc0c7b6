"""A highly available Ray cluster on this machine, whose parts can be hurt.

It is made from a RayService object: its serve config, environment variables, worker shape, drain and grace
periods. KubeRay's part (starting pods, starting them again, the service before them) is played by this class,
by `Hosts` and by `entrance`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offline.ha import harm
from offline.ha.entrance import entrance
from offline.ha.hosts import Hosts, Namespaces
from offline.ha.spares import WORKERS
from offline.ha.store import PRIMARY, REPLICA, Store
from offline.local.errors import LocalRunError
from offline.local.local_service import LocalService
from offline.local.ports import free_ports
from offline.local.processes import (
    LIVENESS_PERIOD_S,
    Command,
    ManagedProcess,
    kill_sessions,
    session_members,
)
from offline.local.ray_cluster import HEAD, RayCluster
from offline.local.serve_api import RayApi, ServeStatus
from offline.local.state import keep_ray_logs

_START_TIMEOUT_S = 180.0
_POLL_S = 0.25


class HaCluster:
    """Head, two workers, entrance and, with `store`, a Redis and its replica. A context manager.

    `directory` takes logs and state. Names of the parts are those of `Command`s.
    """

    def __init__(
        self,
        service: LocalService,
        directory: Path,
        hosts: Hosts,
        *,
        project_dir: Path,
        token: str,
        app_env: Mapping[str, str],
        store: bool = True,
        workers: tuple[str, ...] = WORKERS,
    ) -> None:
        self.service = service
        self.hosts = hosts
        self.directory = directory
        self._project_dir = project_dir
        self._workers = workers
        directory.mkdir(parents=True, exist_ok=True)
        token_file = directory / "ray-token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        self._token = token
        self._api_port, self._dashboard_port = free_ports(2, "127.0.0.1")
        self._ray = RayCluster(
            code_dirs=[project_dir],
            token_file=token_file,
            dashboard_host=hosts.bind,
            dashboard_port=self._dashboard_port,
            app_env=app_env,
            workers=workers,
            hosts=hosts,
        )
        self.store = self._ray.store = Store(directory / "redis", hosts.gateway) if store else None
        self._parts: dict[str, ManagedProcess] = {}
        self._kept_down: set[str] = set()
        self._next_look = 0.0

    @property
    def url(self) -> str:
        """The API, through the entrance."""
        return f"http://127.0.0.1:{self._api_port}"

    @property
    def ray(self) -> RayApi:
        """The head's REST API."""
        return RayApi(f"http://{self.hosts.reach(HEAD)}:{self._dashboard_port}", self._token)

    def __enter__(self) -> HaCluster:
        try:
            if self.store:
                self.start(PRIMARY)
                self.wait(self.store.answers, what="Redis")
                self.start(REPLICA)
                self.wait(lambda: self.store is None or self.store.answers(REPLICA), what="Redis' replica")
            self.start(HEAD)
            self.wait(lambda: self._ray.gcs_listens, what="Ray's GCS")
            for worker in self._workers:
                self.start(worker)
            self._launch(entrance(self.directory, "127.0.0.1", self._api_port, self._ray.proxies()))
            self.wait(self.ray.ready, what="Ray's dashboard")
            self.deploy(self.service.serve_config)
            self.wait(lambda: self.ray.alive_nodes() == 1 + len(self._workers), what="the workers")
            self.wait_until_serving()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        kill_sessions(part.identity for part in self._parts.values())
        keep_ray_logs(self._ray.directory, self.directory / "logs")
        shutil.rmtree(self._ray.directory, ignore_errors=True)
        self.hosts.close()

    # --- what the operator does -------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a part, or start it again after it has ended."""
        if name == HEAD:
            command = self._ray.head(self.service.head_env)
        elif name in self._workers:
            command = self._ray.worker(self.service.worker, name)
        elif self.store:
            command = self.store.command(name)
        else:
            raise LocalRunError(f"{name} is no part of this cluster")
        self._launch(command)

    def deploy(self, serve_config: Mapping[str, Any]) -> None:
        """Hand Serve this config, with the addresses of this cluster."""
        options = {
            **serve_config.get("http_options", {}),
            "host": self.hosts.bind,
            "port": self._ray.head_proxy_port,
        }
        self.ray.deploy({**serve_config, "http_options": options})

    def status(self) -> ServeStatus | None:
        """What Serve reports; None while it cannot."""
        return self.ray.status()

    def wait_until_serving(self, timeout_s: float = _START_TIMEOUT_S) -> float:
        """Wait for RUNNING applications and healthy proxies; how long that took, seconds."""
        began = time.monotonic()

        def serving() -> bool:
            status = self.status()
            if status is not None and status.failed:
                raise LocalRunError(f"Ray Serve gave up: {status.summary()}\n{status.words()}")
            return status is not None and status.serving

        self.wait(serving, what="Ray Serve's RUNNING", timeout_s=timeout_s)
        return time.monotonic() - began

    def wait(self, condition: Callable[[], bool], *, what: str, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Poll until true. Raises `LocalRunError`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                ended = [name for name, part in self._parts.items() if not part.running]
                raise LocalRunError(
                    f"{what} did not come within {timeout_s:.0f} s; ended are {ended or 'none'}; "
                    f"see {self.directory}"
                )
            time.sleep(_POLL_S)

    def revive(self) -> None:
        """Start again what has ended by itself, as Kubernetes does; what was killed here stays down."""
        looks = time.monotonic() > self._next_look
        if looks:
            self._next_look = time.monotonic() + LIVENESS_PERIOD_S
        for name, part in list(self._parts.items()):
            if name not in self._kept_down and (not part.running or (looks and part.lost())):
                part.kill()  # what it had started
                self.start(name)

    def complete(self) -> bool:
        """Whether every part runs."""
        return all(part.running for part in self._parts.values())

    # --- what happens to it -----------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """The machine, pod or server is gone at once, until `start`."""
        self._kept_down.add(name)
        harm.kill(self._parts[name].identity)
        self._parts[name].exit_code()

    def pause(self, name: str) -> None:
        """It stands still, with its connections open."""
        harm.pause(self._parts[name].identity)

    def resume(self, name: str) -> None:
        """It goes on."""
        harm.resume(self._parts[name].identity)

    def drain(self, worker: str) -> float:
        """SIGTERM, and after the pod's grace period SIGKILL; how long that took, seconds."""
        part, began = self._parts[worker], time.monotonic()
        self._kept_down.add(worker)
        harm.ask_to_end(part.identity)
        while part.running and time.monotonic() - began < self.service.worker_grace_s:
            time.sleep(_POLL_S)
        harm.kill(part.identity)
        return time.monotonic() - began

    def move_head(self) -> None:
        """Give the head another address, as a new pod has. Its workers still know the old one."""
        self.hosts.move(HEAD)

    def partition(self, node: str) -> None:
        """Cut the node off from everything else."""
        self._namespaces().cut_off(node)

    def heal(self, node: str) -> None:
        """End what `partition` began."""
        self._namespaces().reconnect(node)

    def processes(self, name: str) -> list[int]:
        """Ids of the living processes of a part."""
        return [process.pid for process in session_members([self._parts[name].identity])]

    def _namespaces(self) -> Namespaces:
        if not isinstance(self.hosts, Namespaces):
            raise LocalRunError("a partition needs network namespaces, and these need root on Linux")
        return self.hosts

    def _launch(self, command: Command) -> None:
        self._kept_down.discard(command.name)
        part = ManagedProcess(command, logs=self.directory / "logs", cwd=self._project_dir)
        self._parts[command.name] = part
