"""What an engine's own report of a failure means over HTTP."""

from __future__ import annotations

from serve_apps.errors import DEFAULT_RETRY_AFTER_S, INVALID_REQUEST, SERVER_ERROR, ApiError, retry_after
from serve_apps.llm.engine import Failed

# What an engine's failure means to a client. 503 promises that nothing was computed; 429 is kept for a key
# that has used up its budget, so that a service that is too small is an error of the service.
_STATUS_OF_FAILURE = {
    "invalid_request": (400, INVALID_REQUEST, "invalid_value"),
    "queue_full": (503, SERVER_ERROR, "overloaded"),
    "timeout": (504, SERVER_ERROR, "timeout"),
    "slow_reader": (408, INVALID_REQUEST, "slow_reader"),
    "engine_error": (500, SERVER_ERROR, "engine_error"),
    "engine_gone": (503, SERVER_ERROR, "unavailable"),
}


def engine_failed(message: str) -> ApiError:
    """500: the engine ended the request without an answer."""
    return from_failed(Failed("engine_error", message))


def from_failed(event: Failed) -> ApiError:
    """What the engine's own report of a failure means over HTTP."""
    status, kind, code = _STATUS_OF_FAILURE[event.kind]
    retry_after_s = event.retry_after_s
    if status == 503 and retry_after_s is None:
        retry_after_s = DEFAULT_RETRY_AFTER_S
    return ApiError(status, event.message, kind=kind, code=code, headers=retry_after(retry_after_s))
