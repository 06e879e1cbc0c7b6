"""The engine replicas as the API sees them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serve_apps.llm.engine import Event, Failed, GenerationRequest, TextDelta
from serve_apps.replica_calls import EngineLostError, replica_errors

logger = logging.getLogger(__name__)

# A request is computed again at most this often: one that takes every engine down with it must end.
_MAX_RETRIES = 2
# The engine watches a request's time itself; this side waits a little longer, so that its words win.
_TIMEOUT_GRACE_S = 5.0


class EngineClient:
    """`generate` over a Serve handle. What goes wrong between the replicas becomes an `ApiError`.

    Where an engine dies before anything of its answer has been passed on, another one gets the request.
    """

    def __init__(self, handle: DeploymentHandle[Any], request_timeout_s: float) -> None:
        self._generate = handle.options(method_name="generate", stream=True)
        self._request_timeout_s = request_timeout_s

    async def generate(self, request: GenerationRequest, *, streamed: bool) -> AsyncGenerator[Event, None]:
        """See `serve_apps.llm.engine.Engine`. Raises `ApiError` if no replica takes or keeps the request.

        Not `streamed`: events come at the end, all at once, so that the death of an engine costs only time.
        """
        deadline = time.monotonic() + self._request_timeout_s + _TIMEOUT_GRACE_S
        for retries_left in range(_MAX_RETRIES, -1, -1):
            held: list[Event] = []
            passed_on = False
            try:
                async with aclosing(self._attempt(request, deadline)) as events:
                    async for event in events:
                        if streamed:
                            passed_on = True
                            yield event
                        else:
                            held.append(event)
            except EngineLostError:
                if passed_on or not retries_left:
                    raise
                logger.warning("request_id=%s goes to another engine", request.request_id)
            else:
                for event in held:
                    yield event
                return

    async def _attempt(self, request: GenerationRequest, deadline: float) -> AsyncGenerator[Event, None]:
        """Events of one call of one replica. Raises `ApiError` and `EngineLostError`."""
        response = cast("DeploymentResponseGenerator[Event]", self._generate.remote(request))
        last: Event | None = None
        with replica_errors(self._request_timeout_s):
            try:
                while event := await asyncio.wait_for(anext(response, None), deadline - time.monotonic()):
                    if isinstance(event, TextDelta):
                        yield event
                    else:
                        last = event  # kept back until the call has ended, or closing would cancel it
            except (asyncio.CancelledError, GeneratorExit, asyncio.TimeoutError):
                response.cancel()
                raise
        if last is None or (isinstance(last, Failed) and last.kind == "engine_gone"):
            raise EngineLostError
        yield last
