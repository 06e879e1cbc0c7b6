"""The HTTP API through the real `openai` client, over a scripted engine."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator

import openai
import pytest
from starlette.types import Message

from serve_apps.errors import overloaded, unavailable
from serve_apps.llm.engine import Failed, Finished, TextDelta
from serve_apps.llm.runners import SamplingParams
from serve_apps.transport import EventStream
from tests.serve.conftest import MAX_MODEL_LEN, MODEL, Api
from tests.serve.scripted import HANG, PARIS

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def chat(api: Api, **parameters):
    return api.client.chat.completions.create(model=MODEL, messages=QUESTION, **parameters)


def stream_lines(api: Api, path: str, body: dict) -> list[str]:
    answer = api.http.post(path, json={"model": MODEL, "stream": True, **body})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]


class TestPlainAnswers:
    def test_a_chat_answer_has_text_reason_and_usage(self, api: Api) -> None:
        answer = chat(api)
        assert answer.object == "chat.completion"
        assert answer.id.startswith("chatcmpl-")
        assert answer.model == MODEL
        assert answer.system_fingerprint == "release-1"
        assert answer.choices[0].message.content == "The capital is Paris."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        usage = answer.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 6, 18)

    def test_a_completion_has_text_reason_and_usage(self, api: Api) -> None:
        api.engine.reset(TextDelta(" Paris", 1), Finished("length", 5, 1))
        answer = api.client.completions.create(model=MODEL, prompt="The capital of France is")
        assert answer.object == "text_completion"
        assert answer.choices[0].text == " Paris"
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 6

    def test_an_earlier_answer_can_be_sent_back_as_it_came(self, api: Api) -> None:
        message = chat(api).choices[0].message
        answer = api.client.chat.completions.create(
            model=MODEL, messages=[*QUESTION, message, {"role": "user", "content": "And of Spain?"}]
        )
        assert answer.choices[0].message.content == "The capital is Paris."

    def test_every_supported_parameter_reaches_the_engine(self, api: Api) -> None:
        chat(
            api, temperature=0.5, top_p=0.9, seed=7, stop=["\n", "END"], max_tokens=9, extra_body={"top_k": 3}
        )
        [request] = api.engine.requests
        assert request.sampling == SamplingParams(temperature=0.5, top_p=0.9, top_k=3, seed=7)
        assert request.stop == ("\n", "END")
        assert request.max_tokens == 9

    def test_parameters_left_out_or_null_have_openai_defaults(self, api: Api) -> None:
        chat(api, temperature=None, stop=None, seed=None)
        [request] = api.engine.requests
        assert request.sampling == SamplingParams(temperature=1.0, top_p=1.0, top_k=0, seed=None)
        assert request.stop == ()

    def test_a_chat_may_use_the_remaining_context_and_a_completion_16_tokens(self, api: Api) -> None:
        chat(api)
        api.client.completions.create(model=MODEL, prompt="Once upon a time")
        chat_request, completion_request = api.engine.requests
        assert chat_request.max_tokens == MAX_MODEL_LEN - len(chat_request.prompt_ids)
        assert completion_request.max_tokens == 16

    def test_the_default_of_a_completion_shrinks_to_the_context(self, api: Api) -> None:
        api.client.completions.create(model=MODEL, prompt=[5] * (MAX_MODEL_LEN - 3))
        assert api.engine.requests[0].max_tokens == 3

    def test_max_completion_tokens_is_the_new_name_of_max_tokens(self, api: Api) -> None:
        chat(api, max_completion_tokens=11)
        assert api.engine.requests[0].max_tokens == 11

    @pytest.mark.parametrize("prompt", ["Hi", ["Hi"], [17, 18, 19], [[17, 18, 19]]])
    def test_a_prompt_is_text_or_token_ids(self, api: Api, prompt) -> None:
        api.client.completions.create(model=MODEL, prompt=prompt)
        [request] = api.engine.requests
        assert request.prompt_ids == ((17, 18, 19) if "Hi" not in prompt else request.prompt_ids)
        assert request.prompt_ids

    def test_two_uses_of_one_request_id_are_two_requests_to_the_engine(self, api: Api) -> None:
        for _ in range(2):
            chat(api, extra_headers={"x-request-id": "same"})
        first, second = api.engine.requests
        assert first.request_id != second.request_id
        assert first.request_id.startswith("same/")

    def test_values_that_change_nothing_are_accepted(self, api: Api) -> None:
        chat(
            api,
            n=1,
            presence_penalty=0,
            frequency_penalty=0.0,
            logit_bias={},
            logprobs=False,
            top_logprobs=0,
            tools=[],
            tool_choice="none",
            response_format={"type": "text"},
            user="somebody",
            store=False,
            metadata={"team": "a"},
            parallel_tool_calls=True,
            service_tier="auto",
            modalities=["text"],
            stream_options={"include_usage": True},
        )
        api.client.completions.create(model=MODEL, prompt="Hi", n=1, best_of=1, echo=False, logprobs=None)
        assert len(api.engine.requests) == 2


class TestStreams:
    def test_a_chat_stream_adds_up_to_the_answer(self, api: Api) -> None:
        chunks = list(chat(api, stream=True))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "The capital is Paris."
        assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, None, "stop"]
        assert len({c.id for c in chunks}) == 1
        assert {c.object for c in chunks} == {"chat.completion.chunk"}
        assert all(c.usage is None for c in chunks)

    def test_a_completion_stream_adds_up_to_the_answer(self, api: Api) -> None:
        chunks = list(api.client.completions.create(model=MODEL, prompt="Hi", stream=True))
        assert "".join(c.choices[0].text for c in chunks) == "The capital is Paris."
        assert chunks[-1].choices[0].finish_reason == "stop"

    @pytest.mark.parametrize(
        ("path", "body"),
        [("/v1/chat/completions", {"messages": QUESTION}), ("/v1/completions", {"prompt": "Hi"})],
    )
    def test_include_usage_adds_one_chunk_without_choices(self, api: Api, path: str, body: dict) -> None:
        lines = stream_lines(api, path, {**body, "stream_options": {"include_usage": True}})
        *chunks, usage_chunk = [json.loads(line) for line in lines[:-1]]
        assert lines[-1] == "[DONE]"
        assert usage_chunk["choices"] == []
        assert usage_chunk["usage"] == {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
        assert all(chunk["usage"] is None for chunk in chunks)

    def test_without_include_usage_no_chunk_mentions_usage(self, api: Api) -> None:
        lines = stream_lines(api, "/v1/chat/completions", {"messages": QUESTION})
        assert lines[-1] == "[DONE]"
        assert not any("usage" in json.loads(line) for line in lines[:-1])

    def test_any_text_survives_the_stream(self, api: Api) -> None:
        pieces = [
            "héllo ",
            "日本語",
            "😀👩‍👩‍👧",
            '"quoted" \\ \n\n data: [DONE]\n\n',
            "\u2028\x85\r\n",
            "\x00",
        ]
        deltas = [TextDelta(piece, 1) for piece in pieces]
        api.engine.reset(*deltas, Finished("stop", 1, len(deltas)))
        chunks = list(chat(api, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "".join(pieces)

    def test_text_held_back_sends_no_empty_chunk(self, api: Api) -> None:
        api.engine.reset(TextDelta("", 1), TextDelta("Hi", 1), TextDelta("", 1), Finished("stop", 1, 3))
        contents = [c.choices[0].delta.content for c in chat(api, stream=True)]
        assert contents == ["", "Hi", None]

    def test_an_empty_answer_is_an_answer(self, api: Api) -> None:
        api.engine.reset(Finished("stop", 4, 1))
        assert chat(api).choices[0].message.content == ""
        api.engine.reset(Finished("stop", 4, 1))
        assert [c.choices[0].finish_reason for c in chat(api, stream=True)] == [None, "stop"]


class TestFailures:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("failed", "status", "retry_after"),
        [
            (Failed("queue_full", "64 requests wait already", retry_after_s=2.3), 503, "3"),
            (Failed("queue_full", "64 requests wait already"), 503, "1"),
            (Failed("invalid_request", "top_k is 5000, the limit is 256"), 400, None),
            (Failed("timeout", "the request took longer than 600 s"), 504, None),
            (Failed("engine_error", "the runner raised RuntimeError"), 500, None),
            (unavailable("no replica"), 503, "1"),
            (overloaded("too many", status=429, retry_after_s=30), 429, "30"),
        ],
    )
    def test_a_failure_before_the_first_token_decides_the_status(
        self, api: Api, failed, status: int, retry_after: str | None, stream: bool
    ) -> None:
        api.engine.reset(failed)
        with pytest.raises(openai.APIStatusError) as caught:
            chat(api, stream=stream)
        assert caught.value.status_code == status
        assert caught.value.response.headers.get("retry-after") == retry_after
        error = caught.value.response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] == (failed.message if isinstance(failed, Failed) else str(failed))

    def test_the_client_comes_back_after_the_time_that_a_503_names(self, api: Api) -> None:
        api.engine.playlist += [(Failed("queue_full", "full", retry_after_s=1),), PARIS]
        began = time.monotonic()
        answer = api.client.with_options(max_retries=1).chat.completions.create(
            model=MODEL, messages=QUESTION
        )
        assert answer.choices[0].message.content == "The capital is Paris."
        assert time.monotonic() - began >= 1  # the client's own first delay is half a second
        assert len(api.engine.requests) == 2

    def test_a_failure_in_mid_stream_is_the_last_event(self, api: Api) -> None:
        api.engine.reset(TextDelta("The", 1), Failed("engine_error", "the runner raised RuntimeError"))
        texts = []
        with pytest.raises(openai.APIError, match="the runner raised RuntimeError"):
            texts.extend(chunk.choices[0].delta.content for chunk in chat(api, stream=True))
        assert texts == ["", "The"]

    def test_after_a_failure_in_mid_stream_nothing_follows(self, api: Api) -> None:
        api.engine.reset(TextDelta("The", 1), Failed("slow_reader", "the client stopped reading"))
        lines = stream_lines(api, "/v1/chat/completions", {"messages": QUESTION})
        assert json.loads(lines[-1])["error"]["code"] == "slow_reader"

    def test_a_failure_in_the_middle_of_a_plain_answer_is_a_500(self, api: Api) -> None:
        api.engine.reset(TextDelta("The", 1), Failed("engine_error", "gone"))
        with pytest.raises(openai.InternalServerError, match="gone"):
            chat(api)

    @pytest.mark.parametrize("script", [(TextDelta("The", 1),), ()])
    def test_an_engine_that_falls_silent_is_an_error(self, api: Api, script) -> None:
        api.engine.script = script
        with pytest.raises(openai.InternalServerError, match="broke off"):
            chat(api)

    def test_a_defect_is_a_500_that_tells_and_logs_no_text(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.engine.reset(RuntimeError("secret prompt"))
        with (
            caplog.at_level(logging.INFO, logger="serve_apps"),
            pytest.raises(openai.InternalServerError) as caught,
        ):
            chat(api)
        assert caught.value.response.json()["error"]["code"] == "internal"
        assert "secret" not in caught.value.response.text
        assert "secret" not in caplog.text
        assert "RuntimeError" in caplog.text

    def test_a_defect_in_mid_stream_is_the_last_event(self, api: Api) -> None:
        api.engine.reset(TextDelta("The", 1), RuntimeError("secret prompt"))
        lines = stream_lines(api, "/v1/chat/completions", {"messages": QUESTION})
        assert json.loads(lines[-1])["error"]["code"] == "internal"

    def test_an_unknown_model_is_a_404(self, api: Api) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            api.client.chat.completions.create(model="gpt-4", messages=QUESTION)
        assert caught.value.code == "model_not_found"
        assert MODEL in caught.value.message

    @pytest.mark.parametrize("max_tokens", [None, MAX_MODEL_LEN])
    def test_what_does_not_fit_the_context_is_refused(self, api: Api, max_tokens: int | None) -> None:
        content = "word " * (2 * MAX_MODEL_LEN if max_tokens is None else 1)
        with pytest.raises(openai.BadRequestError) as caught:
            api.client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=max_tokens
            )
        assert caught.value.code == "context_length_exceeded"
        assert str(MAX_MODEL_LEN) in caught.value.message
        assert not api.engine.requests


class TestDisconnects:
    @pytest.mark.parametrize("script", [(HANG,), (TextDelta("The", 1), HANG)])
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_leaves_closes_its_generation(self, api: Api, script, stream: bool) -> None:
        api.engine.reset(*script)
        with pytest.raises(openai.APITimeoutError):
            for _ in api.client.with_options(timeout=0.5).chat.completions.create(
                model=MODEL, messages=QUESTION, stream=stream
            ):
                pass
        api.engine.wait_until_closed()

    async def test_a_client_that_stops_in_mid_stream_closes_its_generation(self, api: Api) -> None:
        api.engine.reset(TextDelta("The", 1), HANG)
        stream = await api.async_client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        api.engine.wait_until_closed()

    async def test_a_client_that_left_before_the_first_event_closes_its_generation(self) -> None:
        closed = asyncio.Event()

        async def source() -> AsyncGenerator[str, None]:
            try:
                yield "first"
                await asyncio.Event().wait()
            finally:
                closed.set()

        async def events() -> AsyncGenerator[bytes, None]:
            yield b"data: first\n\n"

        async def receive() -> Message:
            raise RuntimeError("what Ray Serve says once its proxy has cancelled the request")

        async def send(message: Message) -> None:
            await asyncio.sleep(0)

        started = source()
        await anext(started)
        await EventStream(events(), started)({"type": "http"}, receive, send)
        assert closed.is_set()

    def test_a_finished_answer_closes_its_generation(self, api: Api) -> None:
        list(chat(api, stream=True))
        chat(api)
        assert len(api.engine.closed) == 2


class TestOtherRoutes:
    def test_the_model_is_listed_and_found_by_a_name_with_a_slash(self, api: Api) -> None:
        assert [model.id for model in api.client.models.list()] == [MODEL]
        assert api.client.models.retrieve(MODEL).owned_by == "neuron-serve"

    def test_a_model_that_is_not_served_is_not_found(self, api: Api) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            api.client.models.retrieve("gpt-4")
        assert caught.value.code == "model_not_found"

    def test_health_tells_release_and_model(self, api: Api) -> None:
        assert api.http.get("/health").json() == {"status": "ok", "release": "release-1", "model": MODEL}

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_sentence_is_answered_with_plain_text(self, api: Api, method: str) -> None:
        sentence = "What is the capital of France?"
        if method == "GET":
            answer = api.http.get("/infer", params={"sentence": sentence})
        else:
            answer = api.http.post("/", json=sentence)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text == "The capital is Paris."
        chat(api)
        assert api.engine.requests[0].prompt_ids == api.engine.requests[1].prompt_ids
        assert api.engine.requests[0].sampling.greedy
