"""The Ray Serve application: the API in front, painters behind it, each with one image at a time."""

# No `from __future__ import annotations`, and imports where they are needed: see serve_apps/llm/app.py.

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_apps.replica import API_MAX_ONGOING_REQUESTS, HEALTH_CHECK_PERIOD_S, ApiReplica, log_with_ray
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from serve_apps.stable_diffusion.painting import Painting


def build_app(args: StableDiffusionArgs) -> Application:
    """The application that `args` describe; Ray Serve calls this with the `args` of its config."""
    admitted = 1 + args.max_queue
    engine = EngineDeployment.options(max_ongoing_requests=admitted, max_queued_requests=admitted)
    return ApiDeployment.bind(args, engine.bind(args))


@serve.deployment(name="Engine", health_check_period_s=HEALTH_CHECK_PERIOD_S)
class EngineDeployment:
    """A replica with a model. Ready when the model is compiled."""

    async def __init__(self, args: StableDiffusionArgs) -> None:
        log_with_ray()
        from serve_apps.stable_diffusion.painter import build_painter

        self._painter = await asyncio.to_thread(build_painter, args)
        self._painting = ThreadPoolExecutor(1, thread_name_prefix="paint")

    async def paint(self, painting: Painting) -> bytes:
        """A PNG. Cancelled, it stops between two steps, or before the first one."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._painting, self._painter.paint, painting, cancelled)
        finally:
            cancelled.set()


@serve.deployment(name="Api", max_ongoing_requests=API_MAX_ONGOING_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class ApiDeployment(ApiReplica):
    """The API of the image model, and the engines behind it."""

    async def __init__(self, args: StableDiffusionArgs, engine: DeploymentHandle[Any]) -> None:
        log_with_ray()
        from serve_apps.auth import ApiKeys
        from serve_apps.replica_calls import call_engine
        from serve_apps.stable_diffusion.api import create_api

        async def paint(painting: Painting) -> bytes:
            return await call_engine(engine.paint, painting, timeout_s=args.request_timeout_s)

        self.api = create_api(
            served_name=args.served_name,
            sizes=args.sizes,
            paint=paint,
            keys=ApiKeys.required_by(args.auth),
            release=self.release,
            # Serve's proxy does, and gives the app the id as a header of the request.
            answers_carry_id=False,
        )
