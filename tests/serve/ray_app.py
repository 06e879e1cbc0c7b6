"""An application on a Ray of its own, in this process."""

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
def on_ray(build_app: Callable[[], Any]) -> Iterator[str]:
    """Serve what `build_app` builds, on two CPUs; yields its address."""
    with pytest.MonkeyPatch.context() as environment:
        as_in_a_cluster(environment)
        import ray
        from ray import serve

        [port] = free_ports(1, "127.0.0.1")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(build_app())
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()
