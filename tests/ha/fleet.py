"""Clusters for scenarios, started as seldom as can be."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offline.ha.cluster import HaCluster
from offline.ha.hosts import Hosts, Loopback, Namespaces
from offline.ha.spares import WORKERS
from offline.local.local_service import LocalService
from offline.local.ray_cluster import HEAD
from serve_apps.environment import MODEL_CACHE_ENV
from serve_apps.model_files import model_cache
from tests.ha.experiment import ROOT
from tests.ha.paced_app import DIRECTORY_ENV


class Fleet:
    """Provides a healthy cluster; the next scenario gets the same one if the last one left it so."""

    def __init__(self, directory: Path, *, separate_hosts: bool | None = None) -> None:
        self.separate_hosts = Namespaces.possible() if separate_hosts is None else separate_hosts
        self._directory = directory
        self._cluster: HaCluster | None = None
        self._made_for: tuple[LocalService, bool] | None = None
        self._count = 0

    @contextmanager
    def cluster(self, service: LocalService, *, store: bool = True) -> Iterator[HaCluster]:
        """A cluster that runs the service; one that is left by an exception is not used again."""
        if self._cluster is None or self._made_for != (service, store) or not self._healthy():
            self.close()
            self._count += 1
            directory = self._directory / f"cluster-{self._count}"
            cluster = HaCluster(
                service,
                directory,
                self._hosts(),
                project_dir=ROOT,
                token=secrets.token_urlsafe(32),
                app_env={MODEL_CACHE_ENV: str(model_cache()), DIRECTORY_ENV: str(directory)},
                store=store,
            )
            self._cluster, self._made_for = cluster.__enter__(), (service, store)
        try:
            yield self._cluster
        except BaseException:
            self.close()
            raise

    def discard(self) -> None:
        """Do not use the cluster again."""
        self._made_for = None

    def close(self) -> None:
        """End the cluster, if there is one."""
        if self._cluster:
            self._cluster.close()
        self._cluster = None

    def _hosts(self) -> Hosts:
        return (Namespaces if self.separate_hosts else Loopback)((HEAD, *WORKERS))

    def _healthy(self) -> bool:
        cluster = self._cluster
        if cluster is None or not cluster.complete():
            return False
        cluster.deploy(cluster.service.serve_config)
        cluster.wait_until_serving()
        return cluster.ray.alive_nodes() == 1 + len(WORKERS)
