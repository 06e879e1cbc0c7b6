"""`chat_ui` without a browser: settings, what of a conversation the API gets, the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chat_ui.apis import Answer
from chat_ui.conversation import figures, notice, to_api
from chat_ui.errors import ApiError
from chat_ui.export import as_json, as_markdown
from chat_ui.settings import parse_base_urls, read_settings


def said(role: str, text: str) -> dict[str, Any]:
    """A message as Gradio hands it over."""
    return {"role": role, "content": [{"type": "text", "text": text}], "metadata": {"title": None}}


def test_base_urls_have_the_names_that_the_environment_gives_them() -> None:
    settings = read_settings(
        [], {"CHAT_UI_BASE_URLS": "a=http://a:8000/v1/, b=https://b/v1?x=y", "CHAT_UI_PORT": "7000"}
    )
    assert settings.base_urls == {"a": "http://a:8000/v1", "b": "https://b/v1?x=y"}
    assert settings.port == 7000


def test_a_base_url_without_a_name_is_its_own() -> None:
    assert parse_base_urls("http://127.0.0.1:8000/v1") == {
        "http://127.0.0.1:8000/v1": "http://127.0.0.1:8000/v1"
    }


def test_flags_win_over_the_environment() -> None:
    settings = read_settings(["--base-urls", "http://flag/v1"], {"CHAT_UI_BASE_URLS": "http://env/v1"})
    assert list(settings.base_urls) == ["http://flag/v1"]


@pytest.mark.parametrize("text", ["", " , ", "127.0.0.1:8000", "name=ftp://x"])
def test_an_unusable_base_url_ends_the_program_with_the_way_to_write_it(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--base-urls", text], {})
    assert ended.value.code == 2
    assert "http://" in capsys.readouterr().err


def test_the_key_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(read_settings([], {"OPENAI_API_KEY": "secret"}))


def test_the_api_gets_the_conversation_in_turns() -> None:
    history = [said("user", "Hi"), said("assistant", "Hello!")]
    assert to_api(history, "Where is Paris?") == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Where is Paris?"},
    ]


def test_a_question_that_got_an_error_is_not_sent_again() -> None:
    history = [said("user", "Hi"), notice(ApiError("The model is busy", "Try again."))]
    assert to_api(history, "Where is Paris?") == [{"role": "user", "content": "Where is Paris?"}]


def test_a_question_that_was_stopped_before_its_answer_is_not_sent_again() -> None:
    assert to_api([said("user", "Hi")], "Bye") == [{"role": "user", "content": "Bye"}]


def test_a_system_prompt_comes_first_and_a_blank_one_not_at_all() -> None:
    assert to_api([], "Hi", " Be brief. ")[0] == {"role": "system", "content": "Be brief."}
    assert to_api([], "Hi", " \n") == [{"role": "user", "content": "Hi"}]


def test_a_saved_conversation_holds_what_was_said_and_no_notice() -> None:
    lost = notice(ApiError("The answer broke off", "Try again."))
    history = [said("user", "Hi"), said("assistant", "Hel"), lost, said("user", "Hi?")]
    file = as_json(history, "small", "Be brief.", 0.5)
    assert file is not None
    body = json.loads(file["text"])
    assert (body["model"], body["temperature"]) == ("small", 0.5)
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hel"),
        ("user", "Hi?"),
    ]
    page = as_markdown(history, "small", "Be brief.", 0.5)
    assert page is not None
    assert page["text"] == (
        "# Conversation with small\n\nTemperature 0.5.\n\n## System prompt\n\nBe brief.\n\n"
        "## You\n\nHi\n\n## small\n\nHel\n\n## You\n\nHi?\n"
    )


@pytest.mark.parametrize("convert", [as_json, as_markdown])
def test_an_empty_conversation_is_no_file(convert: Callable[..., object]) -> None:
    assert convert([], "small", "", 0.2) is None


def test_speed_counts_the_tokens_after_the_first() -> None:
    answer = Answer("...", first_token_s=1.0, last_token_s=3.0, tokens=41)
    assert answer.tokens_per_s == 20.0
    line = figures("my<model>", answer)
    assert "first token after 1.00 s" in line
    assert "41 tokens" in line
    assert "20.0 tokens/s" in line
    assert "my&lt;model&gt;" in line


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_no_speed_is_shown_before_there_is_one(tokens: int | None) -> None:
    answer = Answer("...", first_token_s=1.0, last_token_s=1.0, tokens=tokens)
    assert answer.tokens_per_s is None
    assert "tokens/s" not in figures("model", answer)
