"""A lean client of the completions API: it shares the machine with what it measures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp

from benchmarks.workload import ANSWER_TOKENS

_END = b"data: [DONE]"


class RefusedError(Exception):
    """The server answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def asking(session: aiohttp.ClientSession, url: str) -> Callable[[Sequence[int]], AsyncIterator[int]]:
    """An `Ask` over HTTP: 0 for every message, and at the end the tokens of the whole answer."""

    async def ask(prompt: Sequence[int]) -> AsyncIterator[int]:
        body = {
            "model": "benchmark",
            "prompt": list(prompt),
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with session.post(f"{url}/v1/completions", json=body) as response:
            if response.status != 200:
                await response.read()
                raise RefusedError(response.status)
            last = b""
            async for line in response.content:
                if line.startswith(_END):
                    break
                if line.startswith(b"data: "):
                    yield 0
                    last = line
            yield _tokens(last)

    return ask


def _tokens(line: bytes) -> int:
    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    if "usage" not in event:
        raise RuntimeError(f"the stream ended without token counts: {line[:200]!r}")
    return event["usage"]["completion_tokens"]
