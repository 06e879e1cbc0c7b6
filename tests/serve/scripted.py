"""The API on a real port, over an engine that plays a script. Only the engine is not the real thing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI

from serve_apps.llm.engine import Event, Finished, GenerationRequest, TextDelta
from tests.waiting import wait_until

HANG = "hang"  # a step of a script that never comes

PARIS: tuple[Event, ...] = (
    TextDelta("The capital", 2),
    TextDelta(" is Paris", 2),
    TextDelta(".", 1),
    Finished("stop", prompt_tokens=12, completion_tokens=6, queued_s=0.25, first_token_s=0.5),
)


@dataclass
class ScriptedEngine:
    """Yields the events of `script`, raises its exceptions, and remembers what it was asked.

    While there are scripts in `playlist`, each request uses up one of them instead.
    """

    script: Sequence[Event | Exception | str] = PARIS
    playlist: list[Sequence[Event | Exception | str]] = field(default_factory=list)
    requests: list[GenerationRequest] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    async def generate(self, request: GenerationRequest, *, streamed: bool) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        try:
            for step in self.playlist.pop(0) if self.playlist else self.script:
                if isinstance(step, Exception):
                    raise step
                if step == HANG:
                    await asyncio.Event().wait()
                yield step
        finally:
            self.closed.append(request.request_id)

    def reset(self, *script: Event | Exception | str) -> None:
        self.script = script or PARIS
        self.playlist.clear()
        self.requests.clear()
        self.closed.clear()

    def wait_until_closed(self, timeout_s: float = 10.0) -> None:
        wait_until(lambda: self.closed, "the end of the iterator", timeout_s=timeout_s)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run `app` on a free port of this machine; yields its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
