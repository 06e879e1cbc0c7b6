"""The Ray Serve application: the API in front, engines behind it, each scaled by itself.

`Api` answers HTTP; it needs a tokenizer and little else, so several run beside the engines. `Engine` owns
the model and is ready when it is loaded. The Serve config says how many there are of each and what they may
use; the options below hold where it does not.
"""

# No `from __future__ import annotations`: Ray Serve turns the config's `args` into `LlmArgs` only if the
# annotation of `build_app` is the class itself.
#
# Each deployment imports what it needs when it starts, because every replica, and the step in which Ray
# builds the application, imports this module: the API does without torch, the engine without HTTP.

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_apps.llm.args import LlmArgs
from serve_apps.llm.engine import EngineStats, Event, GenerationRequest
from serve_apps.replica import API_MAX_ONGOING_REQUESTS, HEALTH_CHECK_PERIOD_S, ApiReplica, log_with_ray


def build_app(args: LlmArgs) -> Application:
    """The application that `args` describe; Ray Serve calls this with the `args` of its config."""
    admitted = args.slots + args.max_queue
    # For a moment Serve counts every new request as queued, even while replicas have room: a lower bound on
    # the queue would refuse bursts that one replica can take.
    engine = EngineDeployment.options(max_ongoing_requests=admitted, max_queued_requests=admitted)
    return ApiDeployment.bind(args, engine.bind(args))


@serve.deployment(name="Engine", health_check_period_s=HEALTH_CHECK_PERIOD_S)
class EngineDeployment:
    """A replica with a model. Ready when the model is loaded."""

    async def __init__(self, args: LlmArgs) -> None:
        log_with_ray()
        from serve_apps.llm.factory import build_engine

        self._engine = await asyncio.to_thread(build_engine, args)
        await self._engine.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `serve_apps.llm.engine.Engine`."""
        async with aclosing(self._engine.generate(request)) as events:
            async for event in events:
                yield event

    async def check_health(self) -> None:
        """Raise if the engine is beyond repair; Serve then replaces this replica."""
        self._engine.check_health()

    async def stats(self) -> EngineStats:
        """See `serve_apps.llm.engine.Engine`."""
        return self._engine.stats()

    async def __del__(self) -> None:
        await self._engine.close()


@serve.deployment(name="Api", max_ongoing_requests=API_MAX_ONGOING_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class ApiDeployment(ApiReplica):
    """The chat API: a tokenizer, and the engines behind it."""

    async def __init__(self, args: LlmArgs, engine: DeploymentHandle[Any]) -> None:
        log_with_ray()
        from serve_apps.auth import ApiKeys
        from serve_apps.llm.api import create_api
        from serve_apps.llm.engine_client import EngineClient
        from serve_apps.llm.prompts import Prompts, load_tokenizer
        from serve_apps.models import resolve_tokenizer

        keys = ApiKeys.from_environment() if args.auth == "api-keys" else None
        model_dir = await asyncio.to_thread(resolve_tokenizer, args.model)
        self.api = create_api(
            served_name=args.served_name,
            prompts=Prompts(load_tokenizer(model_dir), args.max_model_len),
            engine=EngineClient(engine, args.request_timeout_s),
            keys=keys,
            release=self.release,
            # Serve's proxy does, and gives the app the id as a header of the request.
            answers_carry_id=False,
        )
