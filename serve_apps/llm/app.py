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
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_apps.llm.args import LlmArgs
from serve_apps.llm.engine import Alive, Engine, EngineStats, Event, GenerationRequest
from serve_apps.replica import API_MAX_ONGOING_REQUESTS, HEALTH_CHECK_PERIOD_S, ApiReplica, log_with_ray

# How often a replica looks whether its own engine still works, and how long a broken one goes on, so that
# requests in flight learn of the failure from the engine and not from a closed connection.
_WATCH_PERIOD_S = 1.0
_LAST_WORDS_S = 1.0

BuildEngine = Callable[[LlmArgs], Engine]
logger = logging.getLogger(__name__)


def build_app(args: LlmArgs) -> Application:
    """The application that `args` describe; Ray Serve calls this with the `args` of its config."""
    from serve_apps.llm.factory import build_engine

    return application(args, build_engine)


def application(args: LlmArgs, build: BuildEngine) -> Application:
    """The application over whatever engine `build` makes in each engine replica."""
    return ApiDeployment.bind(args, EngineDeployment.bind(args, build))


# Serve lets through what the API can hold: the engine has a queue and refuses by itself. What Serve keeps
# back it looks after only every half second, and slots stand idle meanwhile.
@serve.deployment(
    name="Engine",
    max_ongoing_requests=API_MAX_ONGOING_REQUESTS,
    health_check_period_s=HEALTH_CHECK_PERIOD_S,
)
class EngineDeployment:
    """A replica with a model. Ready when the model is loaded.

    One whose engine fails or hangs ends its own process: it would answer every request at once with an error,
    look idle, and so draw the load of the healthy ones, for the three health checks that Serve waits.
    """

    async def __init__(self, args: LlmArgs, build: BuildEngine) -> None:
        log_with_ray()
        from serve_apps.llm.metrics import report

        self._engine = await asyncio.to_thread(build, args)
        await self._engine.start()
        self._watch = asyncio.create_task(_end_with(self._engine))
        self._reporting = asyncio.create_task(report(self._engine, args.served_name))

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event | Alive, None]:
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
        self._watch.cancel()
        self._reporting.cancel()
        await self._engine.close()


@serve.deployment(name="Api", max_ongoing_requests=API_MAX_ONGOING_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class ApiDeployment(ApiReplica):
    """The chat API: a tokenizer, and the engines behind it.

    Its `user_config` may also have `limits`, those of one key and this replica, a minute: see
    `serve_apps.budgets`.
    """

    async def __init__(self, args: LlmArgs, engine: DeploymentHandle[Any]) -> None:
        log_with_ray()
        from serve_apps.auth import ApiKeys
        from serve_apps.budgets import Budgets
        from serve_apps.llm.api import create_api
        from serve_apps.llm.engine_client import EngineClient
        from serve_apps.llm.metrics import ApiMetrics
        from serve_apps.llm.prompts import Prompts, load_tokenizer
        from serve_apps.models import resolve_tokenizer

        self._budgets = Budgets()
        keys = ApiKeys.required_by(args.auth)
        model_dir = await asyncio.to_thread(resolve_tokenizer, args.model)
        self.api = create_api(
            served_name=args.served_name,
            prompts=Prompts(load_tokenizer(model_dir), args.max_model_len),
            engine=EngineClient(engine, args.request_timeout_s),
            keys=keys,
            release=self.release,
            max_body_bytes=args.max_body_bytes,
            observe=ApiMetrics(args.served_name).observe,
            budgets=self._budgets,
            # Serve's proxy does, and gives the app the id as a header of the request.
            answers_carry_id=False,
        )

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Take over a new `user_config`."""
        super().reconfigure(config)
        self._budgets.configure(config.get("limits", {}))


async def _end_with(engine: Engine) -> None:
    """End this process when its engine is beyond repair; Serve starts another replica at once."""
    try:
        while True:
            engine.check_health()
            await asyncio.sleep(_WATCH_PERIOD_S)
    except Exception:
        logger.exception("the engine is beyond repair; this replica ends")
    await asyncio.sleep(_LAST_WORDS_S)
    # Not `sys.exit`: a thread that hangs in the runner would keep the process.
    os._exit(1)
