"""The whole application on a real Ray, with real weights, through the real `openai` client.

One cluster and one application for all tests; the one that kills an engine comes last.
"""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from offline.local.ports import free_ports
from serve_apps.environment import API_KEYS_FILE_ENV
from serve_apps.llm.engine import EngineStats
from tests.serve import observed
from tests.serve.ray_app import as_in_a_cluster, own_ray
from tests.waiting import wait_until

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
    metrics_port: int
    logs: Path
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
        wait_until(lambda: self.status()["status"] == "RUNNING" and self.release() == release)

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
        as_in_a_cluster(environment)
        environment.setenv(API_KEYS_FILE_ENV, str(keys_file))
        import ray

        with own_ray(_system_config={"metrics_report_interval_ms": 1000}) as context:
            [port] = free_ports(1, "127.0.0.1")
            deployed = Deployed(
                f"http://127.0.0.1:{port}",
                f"http://{context.dashboard_url}/api/serve/applications/",
                ray.nodes()[0]["MetricsExportPort"],
                Path(context.address_info["session_dir"]) / "logs",
                copy.deepcopy(serve_config(model_dir, port)),
            )
            deployed.deploy("release-1")
            yield deployed


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
    clients = 4 * (SLOTS + MAX_QUEUE)

    def tell(_: int) -> tuple[int, str | None, Any]:
        body = {"model": MODEL, "messages": STORY, "max_tokens": 16, "seed": 1}
        answer = app.http("POST", "/v1/chat/completions", json=body)
        return answer.status_code, answer.headers.get("retry-after"), answer.json()

    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(tell, range(clients)))
    accepted = [body for status, _, body in answers if status == 200]
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(accepted) >= SLOTS + MAX_QUEUE  # more, where a slot is free again before the last one asks
    assert all(body["usage"]["completion_tokens"] > 0 for body in accepted)
    assert refused
    assert {status for status, _, _ in refused} == {503}
    assert all(int(retry_after or 0) >= 1 for _, retry_after, _ in refused)
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
    wait_until(lambda: app.engine_stats().slots_in_use == 0, timeout_s=20)
    assert app.engine_stats().finished == finished


def test_every_documented_metric_is_exported_with_plausible_values(app: Deployed) -> None:
    before = observed.scrape(app.metrics_port)
    app.client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=8)
    assert app.http("POST", "/v1/completions", json={"model": "gpt-4", "prompt": "x"}).status_code == 404

    def grown(name: str, **labels: str) -> float:
        now = observed.scrape(app.metrics_port)
        return observed.total(now, name, **labels) - observed.total(before, name, **labels)

    chat = {"model": MODEL, "deployment": "Api", "route": "/v1/chat/completions", "status": "200"}
    wait_until(lambda: grown("ray_neuron_serve_requests_total", **chat) >= 1, timeout_s=60)
    unknown = {"route": "/v1/completions", "status": "404", "finish_reason": "model_not_found"}
    wait_until(lambda: grown("ray_neuron_serve_requests_total", **unknown) >= 1, timeout_s=60)
    wait_until(lambda: grown("ray_neuron_serve_generation_tokens_total") >= 7, timeout_s=60)
    samples = observed.scrape(app.metrics_port)
    for name, kind in observed.documented_metrics().items():
        if kind == "histogram":
            count, seconds = (observed.total(samples, name + part) for part in ("_count", "_sum"))
            assert count >= 1, name
            assert 0 < seconds / count < 120, name
        else:
            assert samples.get(name), name
    assert observed.total(samples, "ray_neuron_serve_slots", model=MODEL, deployment="Engine") == SLOTS
    assert observed.total(samples, "ray_neuron_serve_prompt_tokens_total") >= 37


def test_what_is_exported_is_documented(app: Deployed) -> None:
    exported = {name for name in observed.scrape(app.metrics_port) if name.startswith("ray_neuron_serve_")}
    documented = {
        name + part
        for name, kind in observed.documented_metrics().items()
        for part in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    assert exported <= documented


def test_no_prompt_and_no_key_is_in_any_log(app: Deployed) -> None:
    prompt, key = "zanzibarquartz", "sk-wrongxylophone"
    asked = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    path = "/v1/chat/completions"
    assert app.http("POST", path, json=asked).status_code == 200
    assert "data:" in app.http("POST", path, json={**asked, "stream": True}).text
    assert app.http("POST", path, json={**asked, "max_tokens": 10**6}).status_code == 400
    assert app.http("POST", path, json={**asked, prompt: prompt}).status_code == 400
    assert app.http("POST", path, content=prompt).status_code == 415
    assert app.http("POST", path, key=key, json=asked).status_code == 401
    assert app.http("GET", "/infer", params={"sentence": prompt}).status_code == 200
    assert app.http("GET", "/infer", params={"sentence": prompt, "x": prompt}).status_code == 400
    assert app.http("GET", f"/v1/models/{prompt}").status_code == 404
    marked = {"x-request-id": "trace-of-the-end"}
    assert app.http("POST", path, json=asked, headers=marked).status_code == 200
    replicas = app.logs / "serve"
    wait_until(lambda: len(observed.files_with(replicas, "request_id=trace-of-the-end")) == 2, timeout_s=30)
    assert observed.files_with(app.logs, prompt, key, KEY) == []


def test_a_new_release_changes_no_replica(app: Deployed) -> None:
    before = app.replicas("Api"), app.replicas("Engine")
    stream = app.client.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_tokens=60, stream=True
    )
    app.deploy("release-2")
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] in ("stop", "length")
    assert (app.replicas("Api"), app.replicas("Engine")) == before
    assert app.release() == "release-2"


@pytest.mark.faults
def test_a_killed_engine_is_replaced_and_costs_only_the_stream_that_had_begun(app: Deployed) -> None:
    [(killed, pid)] = app.replicas("Engine").items()
    endless = {"model": MODEL, "prompt": "1, 2, 3, 4, 5,", "max_tokens": 200, "temperature": 0}
    story = app.client.completions.create(**endless, stream=True)
    assert next(iter(story)).choices
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(app.http, "POST", "/v1/completions", json=endless)
        wait_until(lambda: app.engine_stats().slots_in_use == 2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="being replaced"):
            list(story)
        # Nothing of this one had been sent, so another engine computes it from the beginning.
        answer = waiting.result()
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 200
    assert killed not in app.replicas("Engine")
