"""An application on a Ray of its own, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from offline.local.ports import free_ports


@contextmanager
def on_ray(build_app: Callable[[], Any]) -> Iterator[str]:
    """Serve what `build_app` builds, on two CPUs; yields its address."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
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
