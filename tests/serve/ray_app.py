"""A Ray of its own for a test, with this process as its driver, and an application on it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from offline.local.ports import free_ports
from workloads.ray_cluster import DATA_PLANES

ROOT = Path(__file__).parents[2]


def as_in_a_cluster(environment: pytest.MonkeyPatch) -> None:
    """What Ray starts from here on does without a token and has the modes of this project's apps.

    Serve reads its modes when it is imported: this process, a plain driver, has imported it before.
    """
    importlib.import_module("ray.serve")
    modes = DATA_PLANES["throughput"]
    for name, value in {**modes, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}.items():
        environment.setenv(name, value)


@contextmanager
def own_ray(**options: Any) -> Iterator[Any]:
    """A Ray with two CPUs that knows of no other one on this machine; yields what `ray.init` gives.

    Once in a while its raylet ends before the first line of its log, and Ray waits half a minute for it in
    vain (2.60); then another one is started.
    """
    import ray

    def start() -> Any:
        # The dashboard may still be there after a failed start, so each has a port of its own.
        [dashboard_port] = free_ports(1, "127.0.0.1")
        return ray.init(
            address="local",
            num_cpus=2,
            dashboard_host="127.0.0.1",
            dashboard_port=dashboard_port,
            log_to_driver=False,
            **options,
        )

    try:
        context = start()
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        context = start()
    try:
        yield context
    finally:
        ray.shutdown()


@contextmanager
def on_ray(build_app: Callable[[], Any]) -> Iterator[str]:
    """Serve what `build_app` builds, on two CPUs; yields its address."""
    with pytest.MonkeyPatch.context() as environment:
        as_in_a_cluster(environment)
        from ray import serve

        with own_ray(include_dashboard=False):
            [port] = free_ports(1, "127.0.0.1")
            try:
                serve.start(http_options={"host": "127.0.0.1", "port": port})
                serve.run(build_app())
                yield f"http://127.0.0.1:{port}"
            finally:
                serve.shutdown()
