"""The HTTP around requests and answers: bounded bodies, clients that go away, streams that get closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import TypeVar

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from serve_apps.errors import ApiError

_Result = TypeVar("_Result")


async def read_json_body(request: Request, limit_bytes: int) -> bytes:
    """The body of a request that says it is JSON. Raises `ApiError` (413, 415)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also keeps a web page from posting to a server on the user's own machine.
        raise ApiError(
            415, "The body must be JSON; send the header `Content-Type: application/json`.", code="not_json"
        )
    if _declared_bytes(request) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    # What is declared may be wrong, and a chunked body declares nothing.
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    return bytes(body)


def _declared_bytes(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, f"The body is longer than {limit_bytes} bytes; shorten it.", code="body_too_large")


async def until_disconnect(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of `work`, which is cancelled when the client goes away. Raises `ClientDisconnect`.

    The request's body must have been read before.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        # Also when this very task is cancelled, as Ray Serve does when the client goes away.
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _disconnect(receive: Receive) -> None:
    """Return when the client has gone away."""
    # Ray Serve's `receive` may also raise then; a client that cannot be heard is gone either way.
    with suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass


class EventStream(StreamingResponse):
    """Server-sent events, made of what `source` yields. However the response ends, `source` is closed."""

    media_type = "text/event-stream"
    # How long the connection may take no more events, because the client reads none.
    SEND_TIMEOUT_S = 60.0

    def __init__(self, events: AsyncGenerator[bytes, None], source: AsyncGenerator[object, None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._source = source
        self._sending_since: float | None = None

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Return when the client has gone away, or reads no more."""
        leaving = {asyncio.ensure_future(_disconnect(receive)), asyncio.ensure_future(self._stall())}
        try:
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in leaving:
                task.cancel()
            await asyncio.wait(leaving)

    async def _stall(self) -> None:
        """Return when one event has waited for the connection for too long."""
        # Looked at now and then: a timer for each event would cost as much as the event.
        while self._sending_s() < self.SEND_TIMEOUT_S:  # noqa: ASYNC110
            await asyncio.sleep(self.SEND_TIMEOUT_S / 4)

    def _sending_s(self) -> float:
        return 0.0 if self._sending_since is None else time.monotonic() - self._sending_since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, or the client goes away or stops reading."""

        async def send_observed(message: Message) -> None:
            self._sending_since = time.monotonic()
            await send(message)
            self._sending_since = None

        try:
            await super().__call__(scope, receive, send_observed)
        finally:
            # Both: if the client left before the first event, the first generator never ran.
            await self._events.aclose()
            await self._source.aclose()
