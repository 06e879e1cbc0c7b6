"""The engine replicas as the API sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serve_apps.llm.engine import Event, GenerationRequest, TextDelta
from serve_apps.replica_calls import replica_errors


class EngineClient:
    """`generate` over a Serve handle. What goes wrong between the replicas becomes an `ApiError`."""

    def __init__(self, handle: DeploymentHandle[Any], request_timeout_s: float) -> None:
        self._generate = handle.options(method_name="generate", stream=True)
        self._request_timeout_s = request_timeout_s

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """See `serve_apps.llm.engine.Engine`. Raises `ApiError` if no replica takes or keeps the request."""
        response = cast("DeploymentResponseGenerator[Event]", self._generate.remote(request))
        # Once a replica has the request, its engine watches the time. Before, nobody else does.
        timeout_s: float | None = self._request_timeout_s
        last: Event | None = None
        with replica_errors(self._request_timeout_s):
            try:
                while event := await asyncio.wait_for(anext(response, None), timeout_s):
                    timeout_s = None
                    if isinstance(event, TextDelta):
                        yield event
                    else:
                        last = event  # kept back until the call has ended, or closing would cancel it
            except (asyncio.CancelledError, GeneratorExit, asyncio.TimeoutError):
                response.cancel()
                raise
        if last is not None:
            yield last
