"""An API that does nothing but stream: a chat answer of `max_tokens` words, as fast as asyncio allows.

What a client measures on it is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

MODEL = "trivial"
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_PIECE = b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n'


async def serve(
    port: int, *, token_s: float = 0.0, stall_s: float = 0.0, asked: list[Any] | None = None
) -> asyncio.Server:
    """Listen on loopback; 0 takes a free port.

    A token takes `token_s`. A second after the first question nothing is answered for `stall_s`. The bodies
    of questions are appended to `asked`.
    """
    clock = asyncio.get_running_loop().time
    stalls_at: float | None = None

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal stalls_at
        try:
            while request := await _read(reader):
                if request.startswith(b"GET"):
                    writer.write(_models())
                    continue
                stalls_at = stalls_at or clock() + 1
                if stalls_at < clock() < stalls_at + stall_s:
                    await asyncio.sleep(stalls_at + stall_s - clock())
                question = json.loads(request.partition(b"\r\n\r\n")[2])
                if asked is not None:
                    asked.append(question)
                await _answer(writer, question, token_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", port, backlog=4096)


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"content-length:" not in lower:
        return head
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def _models() -> bytes:
    body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
    return _HEAD % (b"200 OK", b"application/json", len(body)) + body


async def _answer(writer: asyncio.StreamWriter, question: dict[str, Any], token_s: float) -> None:
    tokens = question.get("max_completion_tokens") or question["max_tokens"]
    words = len(str(question["messages"][0]["content"]).split())
    usage = {"prompt_tokens": words, "completion_tokens": tokens, "total_tokens": words + tokens}
    closing = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"
    writer.write(_STREAM)
    for _ in range(tokens):
        if token_s:
            await asyncio.sleep(token_s)
        writer.write(_chunk(_PIECE))
    writer.write(_chunk(closing) + b"0\r\n\r\n")
    await writer.drain()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _main(port: int, token_s: float) -> None:
    server = await serve(port, token_s=token_s)
    print(server.sockets[0].getsockname()[1], flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An API that only streams words.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-s", type=float, default=0.0)
    chosen = parser.parse_args()
    asyncio.run(_main(chosen.port, chosen.token_s))
