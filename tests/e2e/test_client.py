"""`python -m client` against servers that answer, stall, fail, or are not there."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.trivial_server import MODEL, serve

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def trivial(**settings: Any) -> Iterator[str]:
    """A server in a thread; its base URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(serve(0, **settings))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def client(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-m", "client", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def load(base_url: str, *arguments: str) -> dict[str, Any]:
    result = client("load", f"--base-url={base_url}", "--warm-up=0", "--json=-", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_load_test_reports_what_the_server_did(tmp_path: Path) -> None:
    with trivial(token_s=0.02) as base_url:
        plots = f"--plots={tmp_path}"
        report = load(base_url, "--rate=20", "--duration=3", "--prompt-tokens=12", "--answer-tokens=5", plots)
    assert report["settings"]["model"] == MODEL
    assert report["errors"] == {}
    assert report["sent"] == report["completed"] > 20
    assert report["prompt_tokens"] == 12 * report["sent"]
    assert report["answer_tokens"] == 5 * report["sent"]
    # Five tokens of 20 ms; what is above it is this machine's.
    assert report["inter_token_ms"]["p50"] >= 20
    assert report["latency_ms"]["p50"] >= report["ttft_ms"]["p50"] + 4 * 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["distributions.png", "over-time.png"]


def test_requests_meant_for_a_stall_wait_from_their_own_time_on() -> None:
    """A closed loop would send one request into the stall; users come on."""
    with trivial(stall_s=2.0) as base_url:
        report = load(base_url, "--rate=20", "--duration=6", "--answer-tokens=1")
    # The stall is 2 of some 6 seconds, and those who come within it wait a second on average.
    assert report["ttft_ms"]["p90"] > 500
    assert report["ttft_ms"]["max"] > 1500


def test_ctrl_c_prints_what_there_is() -> None:
    with trivial() as base_url:
        process = subprocess.Popen(
            [sys.executable, "-m", "client", "load", f"--base-url={base_url}", "--warm-up=0", "--rate=20"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: this is what there was until then" in output
    assert "time to first token" in output


def test_an_api_that_is_not_there_is_said_before_anything_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for command in (
        ["load"],
        ["chat"],
        ["infer", "Hi"],
        ["imagine", "a cat", "--output=/tmp/no-such-picture.png"],
    ):
        result = client(*command, f"--base-url=http://127.0.0.1:{port}/v1")
        assert result.returncode == 2, result.stderr
        assert "nothing answers at" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with trivial() as base_url:
        result = client("load", f"--base-url={base_url}", "--model=gpt")
    assert result.returncode == 2
    assert f"--model 'gpt' is not served at {base_url}; it has {MODEL}" in result.stderr


def test_wrong_options_are_refused_with_what_would_do(tmp_path: Path) -> None:
    for arguments, expected in {
        ("--rate=0",): "must be greater than 0",
        ("--answer-tokens=few",): "uniform:LOW:HIGH",
        ("--base-url=localhost",): "must begin with http",
        (f"--api-key-file={tmp_path}/none",): "No such file",
        ("--stack=no-such-stack",): "stack 'no-such-stack' does not exist",
        ("--stack=local",): "has no cost; say --cost-per-hour",
    }.items():
        result = client("load", *arguments)
        assert result.returncode == 2
        assert expected in result.stderr


def test_the_cost_can_come_from_the_placement_of_a_stack() -> None:
    with trivial() as base_url:
        report = load(base_url, "--rate=20", "--duration=2", "--answer-tokens=4", "--stack=dev")
    least, most = report["cost_per_million_tokens"]
    assert 0 < least < most
    assert report["cost_is_lower_bound"] is True


def test_chat_keeps_what_was_said_until_new() -> None:
    asked: list[Any] = []
    with trivial(asked=asked) as base_url:
        result = client(
            "chat", f"--base-url={base_url}", "--max-tokens=3", stdin="Hi\nAgain\n/new\nBye\n/quit\n"
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["word word word "] * 3
    assert result.stderr.count("first token after") == 3
    said = [[message["content"] for message in question["messages"]] for question in asked]
    assert said == [["Hi"], ["Hi", "word word word ", "Again"], ["Bye"]]


PICTURE = b"\x89PNG\r\n\x1a\n the rest of a picture"


class ImageApi(BaseHTTPRequestHandler):
    """The two routes that `imagine` uses, as OpenAI answers them."""

    def do_GET(self) -> None:
        self.answer(200, {"object": "list", "data": [{"id": "painter", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("size") == "7x7":
            error = {"message": "size 7x7 is not compiled; choose 512x512.", "type": "invalid_request_error"}
            self.answer(400, {"error": {**error, "param": "size", "code": None}})
            return
        assert (asked["model"], asked["response_format"]) == ("painter", "b64_json")
        self.answer(200, {"created": 1, "data": [{"b64_json": base64.b64encode(PICTURE).decode()}]})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_imagine_saves_the_picture_and_overwrites_none(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ImageApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = tmp_path / "cat.png"
    command = ["imagine", "a cat", f"--base-url=http://127.0.0.1:{server.server_port}/v1", f"--output={file}"]
    refused = client(*command, "--size=7x7")
    assert refused.returncode == 2
    assert "size 7x7 is not compiled; choose 512x512." in refused.stderr
    assert not file.exists()
    saved = client(*command)
    assert (saved.returncode, saved.stdout) == (0, f"{file}\n"), saved.stderr
    assert file.read_bytes() == PICTURE
    again = client(*command)
    assert again.returncode == 2
    assert "say --force" in again.stderr
    assert client(*command, "--force").returncode == 0
    server.shutdown()
