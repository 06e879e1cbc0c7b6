"""The whole application on a real Ray, with real weights, through the real `openai` client.

One cluster and one application for all tests; the one that kills an engine comes last.
"""

from __future__ import annotations

import copy
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve_apps.llm.args import API_KEYS_FILE_ENV
from serve_apps.llm.engine import EngineStats

MODEL = "smollm2-135m"
KEY = "sk-test"
SLOTS, MAX_QUEUE = 8, 2
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell me a very long story about a dragon."}]


@dataclass
class Deployed:
    """A running application."""

    url: str
    dashboard: str
    config: dict[str, Any]

    def http(self, method: str, path: str, *, key: str | None = KEY, **content: Any) -> httpx.Response:
        headers = {**content.pop("headers", {}), **({"authorization": f"Bearer {key}"} if key else {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=120, **content)

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=120)

    def deploy(self, release: str) -> None:
        self.config["applications"][0]["deployments"][0]["user_config"] = {"release": release}
        httpx.put(self.dashboard, json=self.config, timeout=60).raise_for_status()
        wait_for(lambda: self.status()["status"] == "RUNNING" and self.release() == release)

    def release(self) -> str | None:
        answer = self.http("GET", "/health", key=None)
        return answer.json()["release"] if answer.status_code == 200 else None

    def status(self) -> dict[str, Any]:
        status = httpx.get(self.dashboard, timeout=60).json()["applications"]["llm"]
        assert status["status"] != "DEPLOY_FAILED", status["message"]
        return status

    def replicas(self, deployment: str) -> dict[str, int]:
        """The process ids of the running replicas, by replica id."""
        found = self.status()["deployments"][deployment]["replicas"]
        return {r["replica_id"]: r["pid"] for r in found if r["state"] == "RUNNING"}

    def engine_stats(self) -> EngineStats:
        from ray import serve

        return serve.get_deployment_handle("Engine", app_name="llm").stats.remote().result(timeout_s=30)


def wait_for(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve_config(model_dir: Path, port: int) -> dict[str, Any]:
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "llm",
                "route_prefix": "/",
                "import_path": "serve_apps.llm.app:build_app",
                "args": {
                    "model": str(model_dir),
                    "served_name": MODEL,
                    "stream_interval_ms": 0,
                    "dtype": "float32",
                    "slots": SLOTS,
                    "max_queue": MAX_QUEUE,
                    "max_model_len": 512,
                    "auth": "api-keys",
                },
                "deployments": [
                    {"name": "Api", "ray_actor_options": {"num_cpus": 1}},
                    {
                        "name": "Engine",
                        "backpressure_config": {"status_code": 429, "retry_after_s": 3},
                        "health_check_period_s": 1,
                        "ray_actor_options": {"num_cpus": 1},
                    },
                ],
            }
        ],
    }


@pytest.fixture(scope="module")
def app(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    keys_file = tmp_path_factory.mktemp("keys") / "keys"
    keys_file.write_text(f"{KEY}\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        environment.setenv(API_KEYS_FILE_ENV, str(keys_file))
        import ray

        context = ray.init(
            num_cpus=2, dashboard_host="127.0.0.1", dashboard_port=free_port(), log_to_driver=False
        )
        port = free_port()
        try:
            deployed = Deployed(
                f"http://127.0.0.1:{port}",
                f"http://{context.dashboard_url}/api/serve/applications/",
                copy.deepcopy(serve_config(model_dir, port)),
            )
            deployed.deploy("release-1")
            yield deployed
        finally:
            ray.shutdown()


def test_it_knows_the_capital_of_france(app: Deployed) -> None:
    answer = app.client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=32)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 37
    assert answer.system_fingerprint == "release-1"


def test_a_stream_says_the_same_as_a_plain_answer(app: Deployed) -> None:
    def create(**stream: Any) -> Any:
        return app.client.chat.completions.create(
            model=MODEL, messages=STORY, temperature=0, max_tokens=24, **stream
        )

    chunks = list(create(stream=True, stream_options={"include_usage": True}))
    plain = create()
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage
    assert len(chunks) > 10


def test_a_completion_and_a_plain_sentence_are_answered(app: Deployed) -> None:
    answer = app.client.completions.create(
        model=MODEL, prompt="The capital of France is", temperature=0, stop=["."]
    )
    assert "Paris" in answer.choices[0].text
    assert "." not in answer.choices[0].text
    sentence = QUESTION[0]["content"]
    assert "Paris" in app.http("GET", "/infer", params={"sentence": sentence}).text


def test_an_answer_has_one_request_id_and_needs_a_key(app: Deployed) -> None:
    answer = app.http("GET", "/v1/models", headers={"x-request-id": "trace-1"})
    assert answer.headers.get_list("x-request-id") == ["trace-1"]
    refused = app.http("GET", "/v1/models", key=None)
    assert refused.status_code == 401
    assert len(refused.headers.get_list("x-request-id")) == 1


def test_malformed_requests_are_openai_errors_here_too(app: Deployed) -> None:
    for body in (b"", b"\xff", b"[" * 10_000, b'{"model": "x", "messages": []}', b"x" * 2_000_000):
        json_type = {"content-type": "application/json"}
        answer = app.http("POST", "/v1/chat/completions", content=body, headers=json_type)
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_eight_clients_are_decoded_together(app: Deployed) -> None:
    def tell(_: int) -> str:
        stream = app.client.chat.completions.create(
            model=MODEL, messages=STORY, temperature=0, max_tokens=16, stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    before = app.engine_stats()
    with ThreadPoolExecutor(SLOTS) as clients:
        stories = list(clients.map(tell, range(SLOTS)))
    after = app.engine_stats()
    assert len(set(stories)) == 1
    assert stories[0]
    decode_steps = (after.decode_slots - before.decode_slots) / SLOTS
    assert (after.decode_rows - before.decode_rows) / decode_steps > 2


def test_overload_is_refused_with_a_time_to_come_back_and_the_accepted_finish(app: Deployed) -> None:
    clients = 4 * (SLOTS + MAX_QUEUE)  # twice what the engine and Serve's queue before it take

    def tell(_: int) -> tuple[int, str | None, Any]:
        body = {"model": MODEL, "messages": STORY, "max_tokens": 16, "seed": 1}
        answer = app.http("POST", "/v1/chat/completions", json=body)
        return answer.status_code, answer.headers.get("retry-after"), answer.json()

    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(tell, range(clients)))
    accepted = [body for status, _, body in answers if status == 200]
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(accepted) >= SLOTS
    assert all(body["usage"]["completion_tokens"] > 0 for body in accepted)
    assert refused
    assert {(status, retry_after) for status, retry_after, _ in refused} == {(429, "3")}
    assert {body["error"]["code"] for _, _, body in refused} == {"overloaded"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(app: Deployed, stream: bool) -> None:
    finished = app.engine_stats().finished
    if stream:
        answer = app.client.chat.completions.create(
            model=MODEL, messages=STORY, max_tokens=400, seed=1, stream=True
        )
        assert next(iter(answer)).choices
        assert app.engine_stats().slots_in_use == 1
        answer.close()
    else:
        impatient = app.client.with_options(timeout=2)
        with pytest.raises(openai.APITimeoutError):
            impatient.chat.completions.create(model=MODEL, messages=STORY, max_tokens=400, seed=1)
    wait_for(lambda: app.engine_stats().slots_in_use == 0, timeout_s=20)
    assert app.engine_stats().finished == finished


def test_a_new_release_changes_no_replica(app: Deployed) -> None:
    before = app.replicas("Api"), app.replicas("Engine")
    stream = app.client.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_tokens=60, stream=True
    )
    app.deploy("release-2")
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] in ("stop", "length")
    assert (app.replicas("Api"), app.replicas("Engine")) == before
    assert app.release() == "release-2"


def test_a_killed_engine_is_a_clear_error_and_is_replaced(app: Deployed) -> None:
    def ask(max_tokens: int) -> httpx.Response:
        body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": max_tokens}
        return app.http("POST", "/v1/chat/completions", json=body)

    [(killed, pid)] = app.replicas("Engine").items()
    endless = {"model": MODEL, "prompt": "1, 2, 3, 4, 5,", "max_tokens": 400, "temperature": 0}
    story = app.client.completions.create(**endless, stream=True)
    assert next(iter(story)).choices
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(app.http, "POST", "/v1/completions", json=endless)
        wait_for(lambda: app.engine_stats().slots_in_use == 2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="being replaced"):
            list(story)
        refused = waiting.result()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "unavailable"

    wait_for(lambda: (answer := ask(max_tokens=16)).status_code == 200 and "Paris" in answer.text)
    assert killed not in app.replicas("Engine")
