"""A Ray Serve of its own for one measurement: `python -m benchmarks.serve_process '{...}'` until stdin ends.

Ray reads its modes from the environment when it is imported, in every process of the cluster, so each mode
needs a cluster of its own. The app is `serve_apps.llm.app` but for the engine, which has no end-of-sequence.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.ray_cluster import DATA_PLANES


@dataclass(frozen=True)
class Server:
    """What to start. Without `dtype` the engine is a paced one."""

    model_dir: str
    port: int
    data_plane: str = "throughput"
    stream_interval_ms: int = 0
    dtype: str | None = None
    threads: int = 1
    max_queue: int = 64

    @property
    def environment(self) -> dict[str, str]:
        """For the process and all it starts."""
        return {
            **os.environ,
            **DATA_PLANES[self.data_plane],  # pyright: ignore[reportArgumentType]
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "GOMP_SPINCOUNT": "10000",
        }

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def _application(server: Server) -> Any:
    from ray import serve

    from serve_apps.llm import app
    from serve_apps.llm.args import LlmArgs

    class Engine(app.EngineDeployment.func_or_class):  # pyright: ignore
        async def __init__(self, server: Server) -> None:
            from benchmarks.engines import build

            self._engine = await asyncio.to_thread(build, server)
            await self._engine.start()

    args = LlmArgs(model=server.model_dir, served_name="benchmark", auth="none", max_model_len=256)
    room = app.EngineDeployment.max_ongoing_requests
    engine = serve.deployment(name="Engine", max_ongoing_requests=room)(Engine)
    return app.ApiDeployment.bind(args, engine.bind(server))


def main() -> None:
    """Serve until standard input ends; say `ready` on standard output when it can be asked."""
    server = Server(**json.loads(sys.argv[1]))
    import ray
    from ray import serve

    ray.init(
        address="local", num_cpus=8, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False
    )
    serve.start(http_options={"host": "127.0.0.1", "port": server.port})
    serve.run(_application(server), name="llm", route_prefix="/")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
