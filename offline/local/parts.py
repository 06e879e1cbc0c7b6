"""The parts of a local run beside the chat page: how each is started, and started again when it dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from offline.ha.entrance import NAME as ENTRANCE
from offline.ha.entrance import entrance
from offline.ha.store import PRIMARY
from offline.local.local_service import LocalService
from offline.local.ports import Endpoint
from offline.local.processes import Command
from offline.local.ray_cluster import HEAD, RayCluster
from offline.local.supervisor import Recovery


class Parts:
    """Of a cluster with a store every part may die; of one without, a worker."""

    def __init__(self, cluster: RayCluster, service: LocalService, api: Endpoint, directory: Path) -> None:
        self._cluster = cluster
        self._service = service
        self._api = api
        self._directory = directory

    def entrance(self) -> Command:
        """The way in to the workers of a cluster with a store."""
        return entrance(self._directory, self._api.host, self._api.port, self._cluster.proxies())

    def recoveries(self, answers: Callable[[], bool]) -> dict[str, Recovery]:
        """What may die, by name; `answers` says whether the service does."""
        cluster, service, store = self._cluster, self._service, self._cluster.store
        often = store is not None
        found = {
            name: Recovery(lambda name=name: cluster.worker(service.worker, name), answers, often)
            for name in cluster.workers
        }
        if store:
            found[HEAD] = Recovery(lambda: cluster.head(service.head_env), answers, often)
            found[PRIMARY] = Recovery(lambda: store.command(PRIMARY), store.answers, often)
            found[ENTRANCE] = Recovery(self.entrance, answers)
        return found
