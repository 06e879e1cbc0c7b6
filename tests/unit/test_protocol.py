from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParameters
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParameters

from serve_apps.errors import ApiError
from serve_apps.llm.protocol import ChatRequest, CompletionRequest, parse_sentence
from serve_apps.strict_json import parse

MESSAGES = [{"role": "user", "content": "Hi"}]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def chat(**parameters: Any) -> ChatRequest:
    return parse(ChatRequest, body_with(**parameters))


def refusal(body: bytes, kind: Any = ChatRequest) -> ApiError | None:
    """Why a body is refused; None if it is not. Anything but an `ApiError` fails the test."""
    try:
        parse(kind, body)
    except ApiError as error:
        return error
    return None


def body_with(**parameters: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **parameters}).encode()


@pytest.mark.parametrize(
    ("ours", "theirs"), [(ChatRequest, ChatParameters), (CompletionRequest, CompletionParameters)]
)
def test_every_parameter_of_openai_is_known(ours: Any, theirs: Any) -> None:
    known = set(ours.model_fields)
    assert set(theirs.__annotations__) <= known
    assert known - set(theirs.__annotations__) - {"stream"} == {"top_k"}


@pytest.mark.parametrize("name", sorted(set(ChatRequest.model_fields) - {"model", "messages"}))
def test_null_means_not_given(name: str) -> None:
    assert chat(**{name: None}) == chat()


@given(body=st.binary())
def test_bytes_that_are_no_request_are_refused(body: bytes) -> None:
    for kind in (ChatRequest, CompletionRequest):
        error = refusal(body, kind)
        assert error is not None
        assert error.status == 400


@given(text=st.text(min_size=1))
def test_a_sentence_arrives_unchanged(text: str) -> None:
    assert parse_sentence(json.dumps(text, ensure_ascii=False).encode()) == text


@given(name=st.sampled_from(sorted(ChatRequest.model_fields)) | st.text(), value=json_values)
def test_a_bad_value_is_refused_by_the_name_of_its_parameter(name: str, value: Any) -> None:
    error = refusal(body_with(**{name: value}))
    assert error is None or (error.status, error.error.param is None) == (400, False)
    assert error is None or str(error.error.param).startswith(name[:64])


@given(
    secret=st.text(min_size=6),
    where=st.sampled_from(["messages", "stop", "metadata", "user", "tools", "response_format", "unknown"]),
)
def test_what_the_user_wrote_is_never_repeated(secret: str, where: str) -> None:
    marked = f"<{secret}>"
    for value in (marked, [marked, 5], {"a": marked, "b": 5}, [{"role": marked, "content": marked}]):
        error = refusal(body_with(**{where: value}))
        assert error is None or marked not in str(error.body())


@given(
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 2**31 - 1),
    seed=st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text(min_size=1, max_size=256), max_size=4),
)
def test_every_value_within_bounds_arrives_unchanged(
    temperature: float, top_p: float, top_k: int, seed: int, stop: list[str]
) -> None:
    asked = chat(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop)
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p) == (temperature, top_p)
    assert (sampling.top_k, sampling.seed, asked.stop) == (top_k, seed, stop)


def test_text_parts_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "world"}]
    asked = chat(messages=[{"role": "user", "content": parts}])
    assert asked.messages[0].text == "Hello\nworld"


@pytest.mark.parametrize(
    ("prompt", "expected"), [("a", "a"), (["a"], "a"), ([1, 2], [1, 2]), ([[1, 2]], [1, 2])]
)
def test_a_list_with_one_prompt_is_that_prompt(prompt: Any, expected: Any) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    assert parse(CompletionRequest, body).prompt == expected


def test_both_names_of_the_token_limit_may_agree() -> None:
    assert chat(max_tokens=5, max_completion_tokens=5).token_limit == 5
    assert chat(max_completion_tokens=5).token_limit == 5
    assert chat().token_limit is None


def test_a_very_long_name_is_cut() -> None:
    error = refusal(body_with(**{"x" * 1000: 1}))
    assert error is not None
    assert len(error.error.message) < 150
