"""The engine replicas as the API sees them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serve_apps.llm.engine import (
    ALIVE_INTERVAL_S,
    Alive,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    TextDelta,
)
from serve_apps.replica_calls import EngineLostError, replica_errors

logger = logging.getLogger(__name__)

# A request is computed again at most this often: one that takes every engine down with it must end.
_MAX_RETRIES = 2
# A replica that says nothing for so long is taken for lost by a request that can still go elsewhere. The
# event loop of a Ray actor stands still while a stream's items cannot be reported to their caller: until it
# hears that the caller's node is dead (5 s with the stack's health checks). It may never hear: an actor that
# was cut off from the head for half a minute got no news of nodes any more (ray 2.60).
_SILENCE_S = 10 * ALIVE_INTERVAL_S
# The engine watches a request's time itself; this side waits a little longer, so that its words win.
_TIMEOUT_GRACE_S = 5.0


class _EngineSilentError(Exception):
    """Nothing is known of the request, or not any more."""


class EngineClient:
    """`generate` over a Serve handle. What goes wrong between the replicas becomes an `ApiError`.

    Where an engine dies, or falls silent, before anything of its answer has been passed on, another one gets
    the request.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], request_timeout_s: float, *, silence_s: float = _SILENCE_S
    ) -> None:
        self._generate = handle.options(method_name="generate", stream=True)
        self._request_timeout_s = request_timeout_s
        self._silence_s = silence_s

    async def generate(self, request: GenerationRequest, *, streamed: bool) -> AsyncGenerator[Event, None]:
        """See `serve_apps.llm.engine.Engine`. Raises `ApiError` if no replica takes or keeps the request.

        Not `streamed`: events come at the end, all at once, so that the death of an engine costs only time.
        """
        deadline = time.monotonic() + self._request_timeout_s + _TIMEOUT_GRACE_S
        retries_left = _MAX_RETRIES
        while True:
            held: list[Event] = []
            passed_on = False
            try:
                async with aclosing(self._attempt(request, deadline, streamed=streamed)) as events:
                    async for event in events:
                        if streamed:
                            passed_on = True
                            yield event
                        else:
                            held.append(event)
            except EngineLostError:
                if passed_on or not retries_left:
                    raise
                retries_left -= 1
                logger.warning("request_id=%s goes to another engine", request.request_id)
            except _EngineSilentError:
                # Not counted: a request that waits for room hears as little, and has hurt nobody.
                logger.warning("request_id=%s is sent again after a silence", request.request_id)
            else:
                for event in held:
                    yield event
                return

    async def _attempt(
        self, request: GenerationRequest, deadline: float, *, streamed: bool
    ) -> AsyncGenerator[Event, None]:
        """Events of one call. Raises `ApiError`, `EngineLostError` and `_EngineSilentError`."""
        response = cast("DeploymentResponseGenerator[Event | Alive]", self._generate.remote(request))
        last: Finished | Failed | None = None
        silence_s = self._silence_s
        with replica_errors(self._request_timeout_s):
            try:
                while event := await asyncio.wait_for(
                    anext(response, None), min(silence_s, deadline - time.monotonic())
                ):
                    if isinstance(event, TextDelta):
                        yield event
                        if streamed:
                            silence_s = math.inf  # what the client has seen cannot be computed again
                    elif not isinstance(event, Alive):
                        last = event  # kept back until the call has ended, or closing would cancel it
                        silence_s = self._silence_s
            except (asyncio.CancelledError, GeneratorExit):
                response.cancel()
                raise
            except asyncio.TimeoutError:
                response.cancel()
                if last is None:  # otherwise the answer is whole, and only the end of the call did not come
                    if time.monotonic() < deadline:
                        raise _EngineSilentError from None
                    raise
        if last is None or (isinstance(last, Failed) and last.kind == "engine_gone"):
            raise EngineLostError
        yield last
