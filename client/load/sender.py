"""Sends one streamed chat request and notes when what came.

Not with the `openai` package: parsing every piece into its models takes a core at a few hundred pieces a
second, and would be counted as the server's.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from client.connection import Connection
from client.load.record import Record
from client.load.workload import PlannedRequest

_CONNECT_TIMEOUT_S = 10.0


class Sender:
    """One HTTP session with as many connections as there are requests in flight. A context manager."""

    def __init__(self, connection: Connection, model: str, clock: Callable[[], float]) -> None:
        self._url = f"{connection.base_url}/chat/completions"
        self._model = model
        self._clock = clock
        timeout = aiohttp.ClientTimeout(total=connection.timeout_s, connect=_CONNECT_TIMEOUT_S)
        # A limit would be a queue of our own.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=connection.headers
        )

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, planned: PlannedRequest, record: Record) -> None:
        """Fill in the record; whatever goes wrong becomes its `error`."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": planned.prompt}],
            "max_tokens": planned.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with self._session.post(self._url, json=body) as answer:
                if answer.status != 200:
                    record.error = _status_class(answer.status, await answer.read())
                    return
                record.error = await self._read(answer, record)
        except asyncio.TimeoutError:
            record.error = "timeout"
        except aiohttp.ClientError as error:
            record.error = _error_class(error)
        except ValueError:
            record.error = "malformed answer"
        finally:
            record.done_s = None if record.error == "unfinished" else self._clock()

    async def _read(self, answer: aiohttp.ClientResponse, record: Record) -> str | None:
        """Read the server-sent events; the class of the error, or None."""
        rest = b""
        async for data in answer.content.iter_any():
            now_s = self._clock()
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                text = event.removeprefix(b"data:").strip()
                if text == b"[DONE]":
                    return None
                if text.startswith(b"{") and (error := _take(json.loads(text), record, now_s)):
                    return error
        return "stream broke off"


def _take(event: dict[str, Any], record: Record, now_s: float) -> str | None:
    if "error" in event:
        return f"error in the stream: {_code(event)}"
    record.model = event.get("model") or record.model
    for choice in event.get("choices") or []:
        if choice.get("delta", {}).get("content"):
            record.piece(now_s)
        record.finish_reason = choice.get("finish_reason") or record.finish_reason
    if usage := event.get("usage"):
        record.prompt_tokens = usage.get("prompt_tokens")
        record.answer_tokens = usage.get("completion_tokens")
    return None


def _status_class(status: int, body: bytes) -> str:
    try:
        return f"HTTP {status} {_code(json.loads(body))}".rstrip()
    except ValueError:
        return f"HTTP {status}"


def _code(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType]
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""  # pyright: ignore[reportUnknownArgumentType]


def _error_class(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientOSError) and error.errno in (errno.EMFILE, errno.EADDRNOTAVAIL):
        return "this machine has no connections left"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection refused"
    return "connection broken"
