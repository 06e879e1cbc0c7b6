"""Clients, as a program of its own: `python -m tests.ha.load URL MODEL OUT [options]`.

Plain requests come at a fixed rate, whether or not the ones before were answered; streams follow one
another. No client repeats anything. One JSON line a request goes to OUT when it ends. SIGTERM: nothing new is
sent, what is under way is awaited.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import httpx

_TIMEOUT_S = 60.0


@dataclass
class Record:
    """One request. Times are Unix times, seconds; `status` 0 means that no answer came.

    `outcome`: ok; refused (429 or 503 with Retry-After, nothing was computed); failed; broken (a stream that
    ended before its end, with `error` if the server said why).
    """

    kind: str
    began: float
    ended: float = 0.0
    status: int = 0
    outcome: str = "failed"
    tokens: int = 0
    first_token_s: float | None = None
    longest_pause_s: float = 0.0
    worker: str | None = None
    error: str = ""


class Clients:
    """Everything that asks."""

    def __init__(self, args: argparse.Namespace, out: IO[str]) -> None:
        self._args = args
        self._out = out
        self.stopping = asyncio.Event()
        # A new connection for every request: one that is kept would stay with one worker.
        limits = httpx.Limits(max_keepalive_connections=0, max_connections=None)
        self._http = httpx.AsyncClient(
            base_url=args.url, limits=limits, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False
        )

    async def run(self) -> None:
        """Until stopped."""
        tasks = [asyncio.create_task(self._streams()) for _ in range(self._args.streams)]
        tasks += [asyncio.create_task(self._closed_loop()) for _ in range(self._args.clients)]
        if self._args.rate:
            tasks.append(asyncio.create_task(self._open_loop()))
        await asyncio.gather(*tasks)
        await self._http.aclose()

    async def _open_loop(self) -> None:
        under_way: set[asyncio.Task[float]] = set()
        due = time.monotonic()
        while not self.stopping.is_set():
            task = asyncio.create_task(self._unary())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / self._args.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*under_way)

    async def _closed_loop(self) -> None:
        while not self.stopping.is_set():  # noqa: ASYNC110 - time has to pass, not an event to come
            # One that was refused comes back with another request when it was told to.
            await asyncio.sleep(await self._unary())

    async def _streams(self) -> None:
        while not self.stopping.is_set():
            record = Record("stream", time.time())
            try:
                await self._stream(record)
            except httpx.HTTPError as error:
                record.error = repr(error)
                record.outcome = "broken" if record.status == 200 else "failed"
            self._write(record)
            if record.outcome != "ok":
                await asyncio.sleep(0.2)

    def _body(self, max_tokens: int, **more: Any) -> dict[str, Any]:
        return {"model": self._args.model, "prompt": "Once upon a time", "max_tokens": max_tokens, **more}

    async def _unary(self) -> float:
        """Ask once; how long to wait before the next time, seconds."""
        record, retry_after_s = Record("unary", time.time()), 0.0
        try:
            answer = await self._http.post("/v1/completions", json=self._body(self._args.tokens))
            _take_status(record, answer, answer.text)
            retry_after_s = float(answer.headers.get("retry-after", 0))
            if record.outcome == "ok":
                record.tokens = answer.json()["usage"]["completion_tokens"]
        except httpx.HTTPError as error:
            record.error = repr(error)
        self._write(record)
        return retry_after_s

    async def _stream(self, record: Record) -> None:
        body = self._body(self._args.stream_tokens, stream=True)
        last = time.monotonic()
        async with self._http.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                _take_status(record, answer, (await answer.aread()).decode())
                return
            _take_status(record, answer, "")
            record.outcome = "broken"
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.monotonic()
                if record.first_token_s is None:
                    record.first_token_s = time.time() - record.began
                else:
                    record.longest_pause_s = max(record.longest_pause_s, now - last)
                last = now
                if line == "data: [DONE]":
                    record.outcome = "ok"
                elif "error" in (event := json.loads(line[6:])):
                    record.error = event["error"]["message"]
                elif event["choices"][0]["text"]:
                    record.tokens += 1

    def _write(self, record: Record) -> None:
        record.ended = time.time()
        self._out.write(json.dumps(asdict(record)) + "\n")
        self._out.flush()


def _take_status(record: Record, answer: httpx.Response, text: str) -> None:
    record.status = answer.status_code
    record.worker = answer.headers.get("x-worker")
    if answer.status_code == 200:
        record.outcome = "ok"
    else:
        refused = answer.status_code in (429, 503) and "retry-after" in answer.headers
        record.outcome = "refused" if refused else "failed"
        record.error = text[:300]


def main() -> None:
    """Ask until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=float, default=0.0, help="plain requests a second, open loop")
    parser.add_argument("--clients", type=int, default=0, help="clients that ask again at once")
    parser.add_argument("--streams", type=int, default=0, help="streams at a time")
    parser.add_argument("--tokens", type=int, default=8, help="of a plain answer")
    parser.add_argument("--stream-tokens", type=int, default=400, help="of a streamed answer")
    asyncio.run(_main(parser.parse_args()))


async def _main(args: argparse.Namespace) -> None:
    with args.out.open("a") as out:
        clients = Clients(args, out)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, clients.stopping.set)
        await clients.run()


if __name__ == "__main__":
    main()
