"""Who may use the API, and how a request is found again: keys, request ids, the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest

from serve_apps.auth import ApiKeys
from serve_apps.budgets import Budgets
from serve_apps.llm.api import create_api
from serve_apps.llm.engine import Event, Failed, TextDelta
from serve_apps.llm.prompts import Prompts
from tests.serve.conftest import MODEL, Api
from tests.serve.scripted import HANG, PARIS, ScriptedEngine, serving
from tests.waiting import wait_until

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class TestRequestIds:
    def test_a_sane_request_id_of_the_client_is_kept(self, api: Api) -> None:
        answer = api.http.get("/v1/models", headers={"x-request-id": "trace-42"})
        assert answer.headers["x-request-id"] == "trace-42"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>"])
    def test_any_other_request_id_is_replaced(self, api: Api, given: str) -> None:
        answer = api.http.get("/v1/models", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] not in ("", given)

    def test_errors_carry_a_request_id_too(self, api: Api) -> None:
        assert api.http.get("/nowhere").headers["x-request-id"]
        with pytest.raises(openai.BadRequestError) as caught:
            api.client.chat.completions.create(model=MODEL, messages=QUESTION, n=2)
        assert caught.value.request_id

    def test_one_log_line_a_request_tells_id_route_status_and_tokens_but_no_text(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="serve_apps"):
            answer = api.client.chat.completions.create(
                model=MODEL, messages=QUESTION, stream=True, extra_headers={"x-request-id": "trace-43"}
            )
            list(answer)
            api.http.get("/nowhere/secret%0Aline", headers={"x-request-id": "trace-44"})

            def line_of(request_id: str) -> str:
                return next((line for line in caplog.messages if request_id in line), "")

            # A line is written when the last byte is on its way: the client may have it first.
            wait_until(lambda: line_of("trace-43") and line_of("trace-44"))
        line, other = line_of("trace-43"), line_of("trace-44")
        assert line.startswith(
            f"request_id=trace-43 model={MODEL} POST /v1/chat/completions status=200 finish_reason=stop "
            "prompt_tokens=37 completion_tokens=6 queued_s=0.250 first_token_s=0.500 seconds="
        )
        assert re.search(r" seconds=\d+\.\d{3} tokens_per_s=\d+\.\d$", line)
        assert "status=404 finish_reason=http_404" in other
        assert "secret" not in other
        assert "France" not in caplog.text


class TestKeys:
    @pytest.fixture
    def guarded(self, prompts: Prompts, tmp_path: Path) -> Iterator[str]:
        (tmp_path / "keys").write_text("sk-right\n")
        app = create_api(
            served_name=MODEL,
            prompts=prompts,
            engine=ScriptedEngine(),
            keys=ApiKeys(tmp_path / "keys"),
            release=lambda: None,
        )
        with serving(app) as url:
            yield url

    def test_the_right_key_opens_the_api(self, guarded: str) -> None:
        client = openai.OpenAI(base_url=f"{guarded}/v1", api_key="sk-right", max_retries=0)
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION)
        assert answer.choices[0].message.content == "The capital is Paris."

    def test_a_wrong_key_is_a_401_that_does_not_repeat_it(self, guarded: str) -> None:
        client = openai.OpenAI(base_url=f"{guarded}/v1", api_key="sk-wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.response.headers["www-authenticate"] == "Bearer"
        assert "sk-wrong" not in caught.value.response.text

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/models"),
            ("GET", "/v1/models/x"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/completions"),
            ("GET", "/infer?sentence=hi"),
            ("POST", "/"),
        ],
    )
    def test_every_route_but_health_needs_a_key(self, guarded: str, method: str, path: str) -> None:
        assert httpx.request(method, guarded + path).status_code == 401

    def test_a_key_over_its_budget_gets_openais_429_and_others_go_on(
        self, prompts: Prompts, tmp_path: Path
    ) -> None:
        (tmp_path / "keys").write_text("sk-one\nsk-two\n")
        budgets = Budgets()
        budgets.configure({"requests": 100, "tokens": 40})
        app = create_api(
            served_name=MODEL,
            prompts=prompts,
            engine=ScriptedEngine(),
            keys=ApiKeys(tmp_path / "keys"),
            release=lambda: None,
            budgets=budgets,
        )
        with serving(app) as url:
            one, two = (
                openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
                for key in ("sk-one", "sk-two")
            )
            # 37 tokens of prompt and 6 of answer: more than 40.
            list(one.chat.completions.create(model=MODEL, messages=QUESTION, stream=True))
            with pytest.raises(openai.RateLimitError) as caught:
                one.chat.completions.create(model=MODEL, messages=QUESTION)
            assert caught.value.code == "rate_limit_exceeded"
            assert caught.value.type == "tokens"
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 5
            assert two.chat.completions.create(model=MODEL, messages=QUESTION).choices

    @pytest.mark.parametrize(
        ("script", "tokens"),
        [
            (PARIS, 43),
            ((TextDelta("Half", 3), Failed("engine_error", "the step failed")), 40),
            ((Failed("queue_full", "full"),), 0),
            ((HANG,), 37),
        ],
        ids=["answered", "broken off", "refused", "left"],
    )
    def test_a_key_pays_for_what_was_computed(
        self, prompts: Prompts, tmp_path: Path, script: tuple[Event | str, ...], tokens: int
    ) -> None:
        (tmp_path / "keys").write_text("sk-one")
        charged: list[int] = []

        class Counted(Budgets):
            def charge(self, key: bytes, tokens: int) -> None:
                charged.append(tokens)

        app = create_api(
            served_name=MODEL,
            prompts=prompts,
            engine=ScriptedEngine(playlist=[script]),
            keys=ApiKeys(tmp_path / "keys"),
            release=lambda: None,
            budgets=Counted(),
        )
        with serving(app) as url, suppress(openai.APIError):
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-one", max_retries=0, timeout=2)
            list(client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True))
        assert sum(charged) == tokens

    def test_health_is_open(self, guarded: str) -> None:
        assert httpx.get(f"{guarded}/health").json()["release"] is None
