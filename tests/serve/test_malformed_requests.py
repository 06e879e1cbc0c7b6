"""Whatever is sent: a 4xx with an OpenAI error body that names the fault, and never what the user wrote."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.conftest import MAX_MODEL_LEN, MODEL, Api

SECRET = "my-grandmother's-recipe"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
JSON = {"content-type": "application/json"}

MESSAGES = [{"role": "user", "content": SECRET}]
LEFT_OUT = ...

# What to change in a valid chat request, and the parameter that the error must name.
CHAT_CASES: list[tuple[dict[str, Any], str]] = [
    ({"model": LEFT_OUT}, "model"),
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"model": ""}, "model"),
    ({"messages": LEFT_OUT}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": SECRET}, "messages"),
    ({"messages": [SECRET]}, "messages[0]"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": {"text": SECRET}}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [SECRET]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"text": SECRET}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": SECRET}}]}
            ]
        },
        "messages[0].content[0].type",
    ),
    ({"messages": [*MESSAGES, {"role": "tool", "content": SECRET}]}, "messages[1].role"),
    ({"messages": [{"role": "System", "content": SECRET}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": SECRET}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "x", "name": SECRET}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": "x", "colour": SECRET}]}, "messages[0].colour"),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": SECRET}]}]},
        "messages[0].tool_calls",
    ),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"temperature": 10**400}, "temperature"),
    ({"temperature": [1]}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.01}, "top_p"),
    ({"top_p": float("-inf")}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"top_k": 2**31}, "top_k"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"max_tokens": "16"}, "max_tokens"),
    ({"max_tokens": 16.5}, "max_tokens"),
    ({"max_tokens": 10**30}, "messages"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
    ({"seed": "1"}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": -(10**400)}, "seed"),
    ({"stop": 5}, "stop"),
    ({"stop": ""}, "stop[0]"),
    ({"stop": ["a", ""]}, "stop[1]"),
    ({"stop": [SECRET, 1]}, "stop[1]"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": "x" * 257}, "stop[0]"),
    ({"stream": "true"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"stream_options": {"verbose": True}}, "stream_options.verbose"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"n": 2}, "n"),
    ({"n": 0}, "n"),
    ({"n": True}, "n"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": -1}, "frequency_penalty"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"tools": [{"type": "function", "function": {"name": SECRET}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"prediction": {"type": "content", "content": SECRET}}, "prediction"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"store": True}, "store"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"user": 5}, "user"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"prompt": SECRET}, "prompt"),
    ({"repetition_penalty": 1.1}, "repetition_penalty"),
    ({"ignore_eos": True}, "ignore_eos"),
    ({"Temperature": 1}, "Temperature"),
    ({"": SECRET}, ""),
]

COMPLETION_CASES: list[tuple[dict[str, Any], str]] = [
    ({"prompt": LEFT_OUT}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [""]}, "prompt"),
    ({"prompt": [SECRET, SECRET]}, "prompt"),
    ({"prompt": [[1, 2], [3]]}, "prompt"),
    ({"prompt": {"text": SECRET}}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [True, False]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [1, SECRET]}, "prompt"),
    ({"prompt": [[[1]]]}, "prompt"),
    ({"prompt": [5, -1]}, "prompt[1]"),
    ({"prompt": [10**9]}, "prompt[0]"),
    ({"prompt": [10**100]}, "prompt[0]"),
    ({"prompt": [5] * MAX_MODEL_LEN}, "prompt"),
    ({"max_tokens": MAX_MODEL_LEN}, "prompt"),
    ({"best_of": 2}, "best_of"),
    ({"echo": True}, "echo"),
    ({"logprobs": 0}, "logprobs"),
    ({"suffix": SECRET}, "suffix"),
    ({"messages": MESSAGES}, "messages"),
    ({"max_completion_tokens": 5}, "max_completion_tokens"),
]

BODIES: dict[str, tuple[bytes, dict[str, str], int]] = {
    "empty": (b"", JSON, 400),
    "not JSON": (b"model=x", JSON, 400),
    "cut short": (b'{"model": "x", "messages": [', JSON, 400),
    "trailing text": (b'{"model": "x"} {}', JSON, 400),
    "byte order mark": (b'\xef\xbb\xbf{"model": "x"}', JSON, 400),
    "UTF-16": ('{"model": "x"}'.encode("utf-16"), JSON, 400),
    "bad UTF-8": (b'{"model": "\xff\xfe"}', JSON, 400),
    "overlong UTF-8": (b'{"model": "\xc0\xaf"}', JSON, 400),
    "lone surrogate": (b'{"model": "\\ud800"}', JSON, 400),
    "bad escape": (b'{"model": "\\x41"}', JSON, 400),
    "null": (b"null", JSON, 400),
    "a list": (b"[]", JSON, 400),
    "a string": (b'"hello"', JSON, 400),
    "a number": (b"5", JSON, 400),
    "deep lists": (b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", JSON, 400),
    "deep objects": (b'{"metadata": ' + b'{"a": ' * 10_000 + b"1" + b"}" * 10_001, JSON, 400),
    "deep and never closed": (b"[" * 100_000, JSON, 400),
    "a number of 5000 digits": (b'{"seed": ' + b"9" * 5000 + b"}", JSON, 400),
    "a huge exponent": (b'{"temperature": 1e999999999}', JSON, 400),
    "too long": (b'{"model": "' + b"x" * (2 * 1024 * 1024) + b'"}', JSON, 413),
    "no content type": (b"{}", {}, 415),
    "a form": (b"model=x", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "plain text": (b"{}", {"content-type": "text/plain"}, 415),
    "compressed": (b"\x1f\x8b\x08\x00", {**JSON, "content-encoding": "gzip"}, 400),
}


def assert_openai_error(answer: httpx.Response, status: int | None = None) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text
    assert status in (None, answer.status_code)
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["code"]
    assert SECRET not in answer.text
    return error


def with_changes(valid: dict[str, Any], changes: dict[str, Any]) -> bytes:
    body = {key: value for key, value in {**valid, **changes}.items() if value is not LEFT_OUT}
    return json.dumps(body).encode()


def case_name(value: object) -> str | None:
    return json.dumps(value, default=str)[:50] if isinstance(value, dict) else None


@pytest.mark.parametrize(("changes", "param"), CHAT_CASES, ids=case_name)
def test_a_malformed_chat_request_is_refused_by_the_name_of_its_fault(
    api: Api, changes: dict[str, Any], param: str
) -> None:
    body = with_changes({"model": MODEL, "messages": MESSAGES}, changes)
    error = assert_openai_error(api.http.post(CHAT, content=body, headers=JSON), 400)
    assert error["param"] == param
    assert not api.engine.requests


@pytest.mark.parametrize(("changes", "param"), COMPLETION_CASES, ids=case_name)
def test_a_malformed_completion_request_is_refused_by_the_name_of_its_fault(
    api: Api, changes: dict[str, Any], param: str
) -> None:
    body = with_changes({"model": MODEL, "prompt": SECRET}, changes)
    error = assert_openai_error(api.http.post(COMPLETIONS, content=body, headers=JSON), 400)
    assert error["param"] == param
    assert not api.engine.requests


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(("body", "headers", "status"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request_is_refused(
    api: Api, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert_openai_error(api.http.post(path, content=body, headers=headers), status)
    assert not api.engine.requests


@pytest.mark.parametrize("body", [b"", b'""', b"5", b"null", b'{"sentence": "x"}', b'["x"]', b"\xff", b'"x'])
def test_the_root_route_takes_one_json_string(api: Api, body: bytes) -> None:
    assert_openai_error(api.http.post("/", content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("query", "param"),
    [("", "sentence"), ("?sentence=", "sentence"), ("?sentence=x&temperature=1", "temperature")],
)
def test_infer_takes_one_sentence(api: Api, query: str, param: str) -> None:
    assert assert_openai_error(api.http.get(f"/infer{query}"), 400)["param"] == param


def test_a_sentence_beyond_the_context_is_refused(api: Api) -> None:
    answer = api.http.get("/infer", params={"sentence": f"{SECRET} " * MAX_MODEL_LEN})
    assert assert_openai_error(answer, 400)["code"] == "context_length_exceeded"


UNKNOWN_ROUTES = [
    *("/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/v1/embeddings", "/v1/responses", "/v1/models/"),
    *("/docs", "/redoc", "/v1/files/%00", "/%2e%2e/etc/passwd", "/%ff"),
]


@pytest.mark.parametrize("path", UNKNOWN_ROUTES)
def test_an_unknown_route_is_a_404(api: Api, path: str) -> None:
    assert_openai_error(api.http.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", CHAT), ("PUT", COMPLETIONS), ("POST", "/v1/models"), ("DELETE", "/health")]
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(api: Api, method: str, path: str) -> None:
    answer = api.http.request(method, path)
    error = assert_openai_error(answer, 405)
    assert answer.headers["allow"] in error["message"]


def test_the_message_shows_value_limit_and_way_out(api: Api) -> None:
    def message(**changes: Any) -> str:
        body = with_changes({"model": MODEL, "messages": MESSAGES}, changes)
        return assert_openai_error(api.http.post(CHAT, content=body, headers=JSON))["message"]

    assert message(temperature=3.5) == "temperature: Input should be less than or equal to 2 (got 3.5)."
    assert message(n=2) == "n: only 1 is supported; send the request several times (got 2)."
    assert message(best_of=2) == "Unknown parameter 'best_of'; remove it."
    assert message(model=LEFT_OUT) == "The parameter 'model' is required; add it."
    assert message(model="gpt-4") == f"The model 'gpt-4' does not exist here; this server has '{MODEL}'."
