"""Requests that no HTTP client would send, as bytes on a socket, and requests made up by hypothesis."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve_apps.llm.api import create_api
from serve_apps.llm.engine import Event, Finished, GenerationRequest, TextDelta
from serve_apps.llm.prompts import Prompts
from serve_apps.llm.protocol import ChatRequest, CompletionRequest
from serve_apps.llm.runners import Capabilities
from serve_apps.llm.runners.checked import CheckedRunner
from serve_apps.llm.slot_engine import SlotEngine
from serve_apps.transport import EventStream
from tests.echo_runner import EchoRunner, capabilities
from tests.serve.conftest import MAX_MODEL_LEN, MODEL, Api
from tests.serve.scripted import serving

VALID = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
LIMIT = 4096


def exchange(url: str, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to these bytes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/v1/chat/completions") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


JSON = b"Content-Type: application/json"
IN_CHUNKS = b"Transfer-Encoding: chunked"
# The server's HTTP parser refuses these itself, in plain text.
UNPARSABLE = {
    "no request line": b"\r\n\r\n\r\nhello\r\n\r\n",
    "negative length": post(JSON, b"Content-Length: -5", body=VALID),
    "length that is no number": post(JSON, b"Content-Length: many", body=VALID),
    "two lengths": post(JSON, b"Content-Length: 3", b"Content-Length: 4", body=b"{}{}"),
    "header without a name": post(JSON, b": x", length(VALID), body=VALID),
    "space in a header's name": post(JSON, b"x y: z", length(VALID), body=VALID),
    "bad chunk size": post(JSON, IN_CHUNKS, body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "NUL in a header": post(JSON, b"x-a: \x00", length(VALID), body=VALID),
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of the client's own": b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such version": b"POST / HTTP/9.9\r\nHost: x\r\n\r\n",
}
REFUSED: dict[str, tuple[bytes, int]] = {
    "no body at all": (post(JSON), 400),
    "chunked and empty": (post(JSON, IN_CHUNKS, body=chunked()), 400),
    "chunked and cut inside a character": (
        post(JSON, IN_CHUNKS, body=chunked(b'{"model": "\xc3', b'"}')),
        400,
    ),
    "chunked without a content type": (post(IN_CHUNKS, body=chunked(VALID)), 415),
    "content type with parameters of another": (
        post(b"Content-Type: text/json;application/json", length(VALID), body=VALID),
        415,
    ),
    "content type in latin-1": (post(b"Content-Type: \xe4", length(VALID), body=VALID), 415),
    "another charset": (
        post(b"Content-Type: application/json; charset=utf-16", body=VALID.decode().encode("utf-16")),
        400,
    ),
    "a declared length beyond the limit": (post(JSON, b"Content-Length: 999999999999", body=b"{"), 413),
    "chunks beyond the limit": (post(JSON, IN_CHUNKS, body=chunked(*[b" " * 1024] * 8)), 413),
    "one chunk beyond the limit": (post(JSON, IN_CHUNKS, body=chunked(b" " * (LIMIT + 1))), 413),
    "duplicate keys, the last wrong": (
        post(JSON, length(b'{"model":"a","model":5}'), body=b'{"model":"a","model":5}'),
        400,
    ),
    "a path of another host": (post(JSON, length(VALID), body=VALID, path=b"http://other/v1/x"), 404),
    "dots in the path": (post(JSON, length(VALID), body=VALID, path=b"/v1/../v1/chat/completions"), 404),
    "two slashes": (post(JSON, length(VALID), body=VALID, path=b"//v1/chat/completions"), 404),
    "TRACE": (b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
}


@pytest.fixture(scope="module")
def small(prompts: Prompts, model_dir: Path) -> Iterator[str]:
    """An API that takes short bodies only, over a real engine with a runner that echoes."""
    limits = capabilities(slots=4, max_len=MAX_MODEL_LEN, prefill_tokens=MAX_MODEL_LEN)
    engine = Started(limits, Tokenizer.from_file(str(model_dir / "tokenizer.json")))
    app = create_api(
        served_name=MODEL,
        prompts=prompts,
        engine=engine,
        keys=None,
        release=lambda: None,
        max_body_bytes=LIMIT,
    )
    with serving(app) as url:
        yield url
        engine.check_health()
        engine.close()


class Started:
    """A slot engine that starts with its first request, in the server's event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, limits: Capabilities, tokenizer: Tokenizer) -> None:
        runner = CheckedRunner(EchoRunner(limits))
        self._engine = SlotEngine(runner, tokenizer, eos_ids={2}, max_queue=8, request_timeout_s=30)

    async def generate(self, request: GenerationRequest, **_: object) -> AsyncGenerator[Event, None]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            await self._engine.start()
        async with aclosing(self._engine.generate(request)) as events:
            async for event in events:
                yield event

    def check_health(self) -> None:
        self._engine.check_health()

    def close(self) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._engine.close(), self._loop).result()


@pytest.mark.parametrize("request_bytes", UNPARSABLE.values(), ids=UNPARSABLE)
def test_what_is_no_http_is_a_400(small: str, request_bytes: bytes) -> None:
    assert exchange(small, request_bytes)[0] == 400


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
def test_an_odd_request_is_an_openai_error(small: str, request_bytes: bytes, status: int) -> None:
    got, body = exchange(small, request_bytes)
    assert got == status, body
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_a_chunked_request_within_the_limit_is_answered(small: str) -> None:
    pieces = [VALID[:7], VALID[7:30], VALID[30:]]
    status, body = exchange(small, post(JSON, IN_CHUNKS, body=chunked(*pieces)))
    assert status == 200
    assert json.loads(body)["choices"]


def test_no_web_page_of_another_origin_may_read_an_answer(api: Api) -> None:
    origin = {"Origin": "https://example.org"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    for answer in (
        api.http.get("/v1/models", headers=origin),
        api.http.options("/v1/chat/completions", headers=preflight),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.status_code == 405


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=40)}
)
common = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "top_k": st.integers(0, 2**31 - 1),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "max_tokens": st.integers(1, 20),
    "stop": st.lists(st.text(min_size=1, max_size=5), max_size=4),
    "stream": st.booleans(),
}
prompt = st.text(min_size=1, max_size=40) | st.lists(st.integers(0, 49151), min_size=1, max_size=40)
REQUESTS = {
    "chat/completions": ("messages", st.lists(messages, min_size=1, max_size=4), ChatRequest),
    "completions": ("prompt", prompt, CompletionRequest),
}


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Valid requests, most with something put in the place of a part."""
    name, value, kind = REQUESTS[path]
    valid = st.fixed_dictionaries({"model": st.just(MODEL), name: value}, optional=common)
    changes = st.dictionaries(st.sampled_from(sorted(kind.model_fields)) | st.text(), anything, max_size=1)
    return st.builds(as_json, valid, changes, st.booleans())


def as_json(valid: dict[str, Any], changes: dict[str, Any], ascii_only: bool) -> bytes:
    return json.dumps({**valid, **changes}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("path", REQUESTS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_request_is_answered_or_refused(small: str, path: str, data: st.DataObject) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{small}/v1/{path}", content=data.draw(bodies(path)), headers=headers)
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n")


def test_a_client_that_reads_nothing_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "SEND_TIMEOUT_S", 0.3)
    api.engine.reset(*[TextDelta("x" * 10_000, 1)] * 5_000, Finished("length", 1, 5_000))
    body = json.dumps({"model": MODEL, "prompt": "Hi", "stream": True}).encode()
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(post(JSON, length(body), body=body, path=b"/v1/completions"))
        api.engine.wait_until_closed()
        got = sum(map(len, iter(lambda: connection.recv(1 << 20), b"")))
    assert 0 < got < 50_000_000
