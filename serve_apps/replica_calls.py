"""Calls from an API replica to the engines behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException

from serve_apps import errors
from serve_apps.errors import DEFAULT_RETRY_AFTER_S, SERVER_ERROR, ApiError

logger = logging.getLogger(__name__)


class EngineLostError(ApiError):
    """503: the replica that had the request is gone, or its engine is."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "The engine stopped and is being replaced; try again shortly.",
            kind=SERVER_ERROR,
            code="unavailable",
            headers=errors.retry_after(DEFAULT_RETRY_AFTER_S),
        )


@contextmanager
def replica_errors(timeout_s: float) -> Generator[None]:
    """What goes wrong between the API and an engine's replicas, as an `ApiError`; see `EngineLostError`."""
    try:
        yield
    except BackPressureError as error:
        raise errors.overloaded(
            "Every engine has as many requests as it takes; try again shortly.",
            status=error.status_code,
            retry_after_s=error.retry_after_s,
        ) from error
    except asyncio.TimeoutError as error:
        raise errors.unavailable(f"No engine answered within {timeout_s:g} s; try again later.") from error
    except (RayActorError, RayServeException) as error:
        logger.warning("an engine replica is gone: %s", type(error).__name__)
        raise EngineLostError from error


async def call_engine(method: Any, *arguments: object, timeout_s: float) -> Any:
    """The result of one call of a deployment's method; cancelled there when it is cancelled here.

    Raises `ApiError` where no replica took or finished the call in time.
    """
    with replica_errors(timeout_s):
        response = method.remote(*arguments)
        try:
            return await asyncio.wait_for(response, timeout_s)
        except (asyncio.CancelledError, asyncio.TimeoutError):
            response.cancel()
            raise
