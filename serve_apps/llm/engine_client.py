"""The engine replicas as the API sees them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serve_apps.llm import errors
from serve_apps.llm.engine import Event, GenerationRequest, TextDelta

logger = logging.getLogger(__name__)


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
        try:
            while event := await asyncio.wait_for(anext(response, None), timeout_s):
                timeout_s = None
                if isinstance(event, TextDelta):
                    yield event
                else:
                    last = event  # kept back until the call has ended, or closing would cancel it
        except (asyncio.CancelledError, GeneratorExit):
            response.cancel()
            raise
        except BackPressureError as error:
            raise errors.overloaded(
                "Every engine has as many requests as it takes; try again shortly.",
                status=error.status_code,
                retry_after_s=error.retry_after_s,
            ) from error
        except asyncio.TimeoutError as error:
            response.cancel()
            raise errors.unavailable(
                f"No engine answered within {self._request_timeout_s:g} s; try again later."
            ) from error
        except (RayActorError, RayServeException) as error:
            logger.warning("an engine replica is gone: %s", type(error).__name__)
            raise errors.unavailable(
                "The engine stopped and is being replaced; try again shortly."
            ) from error
        if last is not None:
            yield last
