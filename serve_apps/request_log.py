"""The outermost layer of the API: a request id in every answer, and one log line a request.

Lines hold ids, counts and times, never what was asked or answered. An exception that nothing handled becomes
an OpenAI error body here, and its traceback goes into the log without its message, which may quote a prompt.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps import errors

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "x-request-id"
# What a client may choose as its id: enough for UUIDs and trace ids, and safe in a log line.
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_STATUS_CLIENT_CLOSED = 499


@dataclass
class RequestRecord:
    """What the log line of one request says; routes fill in what they learn."""

    request_id: str
    started_s: float = field(default_factory=time.monotonic)
    status: int = _STATUS_CLIENT_CLOSED  # until an answer begins
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queued_s: float | None = None
    first_token_s: float | None = None
    seconds: float = 0.0
    # `stop` or `length`, the code of an error, `disconnected`, `defect`; `none` where nothing was generated
    outcome: str = "none"
    # Takes a number of tokens from the budget of the request's key.
    charge: Callable[[int], None] = field(default=lambda _tokens: None, repr=False)
    charged_tokens: int = 0

    def settle(self) -> None:
        """Charge the key for the tokens that were counted since the last time."""
        tokens = self.prompt_tokens + self.completion_tokens
        self.charge(tokens - self.charged_tokens)
        self.charged_tokens = tokens

    def end(self) -> None:
        """The last byte is sent."""
        self.seconds = time.monotonic() - self.started_s

    def line(self, model: str, method: str, route: str) -> str:
        """One line of `key=value`; `-` is a time that nobody measured."""
        return (
            f"request_id={self.request_id} model={model} {method} {route} status={self.status} "
            f"finish_reason={self.outcome} prompt_tokens={self.prompt_tokens} "
            f"completion_tokens={self.completion_tokens} queued_s={_shown(self.queued_s)} "
            f"first_token_s={_shown(self.first_token_s)} seconds={self.seconds:.3f} "
            f"tokens_per_s={self.completion_tokens / max(self.seconds, 1e-3):.1f}"
        )


def _shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def record_of(request: Request) -> RequestRecord:
    """The record that `RequestLog` attached to this request."""
    return request.state.record


class RequestLog:
    """ASGI middleware. `answers_carry_id`: add the request id to answers (no server in front does it).

    `observe` gets the record and the route of every request that has ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        model: str,
        answers_carry_id: bool,
        observe: Callable[[RequestRecord, str], None],
    ) -> None:
        self._app = app
        self._model = model
        self._answers_carry_id = answers_carry_id
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope))
        scope.setdefault("state", {})["record"] = record
        answering = False

        async def send_with_id(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                record.status = message["status"]
                if self._answers_carry_id:
                    MutableHeaders(scope=message)[REQUEST_ID_HEADER] = record.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            record.outcome = "disconnected"
        except Exception as error:
            log_defect(record, error)
            if not answering:
                await errors.internal().response()(scope, receive, send_with_id)
        finally:
            # The path itself may be anything; a route's template is one of a few.
            route = getattr(scope.get("route"), "path", "(no route)")
            record.end()
            logger.info("%s", record.line(self._model, scope["method"], route))
            self._observe(record, route)


def log_defect(record: RequestRecord, error: Exception) -> None:
    """Log an exception that nobody expected: where it came from, not what it says."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    record.outcome = "defect"
    logger.error("request_id=%s %s\n%s", record.request_id, type(error).__name__, frames)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
