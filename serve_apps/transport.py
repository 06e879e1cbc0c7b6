"""The HTTP around requests and answers: bounded bodies, clients that go away, streams that get closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import TypeVar

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

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
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise ApiError(
                413,
                f"The body is longer than {limit_bytes} bytes; shorten it.",
                code="body_too_large",
            )
    return bytes(body)


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

    def __init__(self, events: AsyncGenerator[bytes, None], source: AsyncGenerator[object, None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._source = source

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Return when the client has gone away."""
        await _disconnect(receive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Both: if the client left before the first event, the first generator never ran.
            await self._events.aclose()
            await self._source.aclose()
