"""The chat page in a real browser: over the running stack, and over the real API with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from chat_ui.app import create_app
from chat_ui.settings import Settings
from serve_apps.llm.api import create_api
from serve_apps.llm.auth import ApiKeys
from serve_apps.llm.engine import Event, Failed, GenerationRequest, TextDelta
from serve_apps.llm.prompts import Prompts, load_tokenizer
from tests.e2e.conftest import Stack
from tests.serve.scripted import HANG, ScriptedEngine, serving

pytestmark = pytest.mark.browser

MODEL = "scripted"
NOWHERE = "http://127.0.0.1:9/v1"
KEY = "a-key-for-the-tests-of-the-page"
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def prompts(model_dir: Path) -> Prompts:
    return Prompts(load_tokenizer(model_dir), max_model_len=256)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    return path


@dataclass
class Scripted:
    """Pages over one scripted engine, one with a key that is not valid, and one over nothing at all."""

    engine: SlowEngine
    page_url: str
    refused_url: str
    down_url: str


class SlowEngine(ScriptedEngine):
    """Takes its time between two pieces, as a model does."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                yield event
                await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def running_pages(prompts: Prompts, keys_file: Path) -> Iterator[Scripted]:
    engine = SlowEngine()
    api = create_api(
        served_name=MODEL, prompts=prompts, engine=engine, keys=ApiKeys(keys_file), release=lambda: None
    )
    with serving(api) as api_url:
        base_urls = {"scripted": f"{api_url}/v1"}
        good = create_app(Settings(base_urls, "127.0.0.1", 0, KEY))
        bad = create_app(Settings(base_urls, "127.0.0.1", 0, "withdrawn"))
        down = create_app(Settings({"nowhere": NOWHERE}, "127.0.0.1", 0))
        with serving(good) as page_url, serving(bad) as refused_url, serving(down) as down_url:
            yield Scripted(engine, page_url, refused_url, down_url)


@pytest.fixture
def scripted(running_pages: Scripted) -> Scripted:
    running_pages.engine.reset()
    return running_pages


def ask(page: Page, text: str) -> None:
    page.locator("textarea").fill(text)
    page.get_by_role("button", name="Send").click()


def last_answer(page: Page) -> Locator:
    return page.locator(".bot.message").last


# --- the real thing ------------------------------------------------------------------------------------


def test_the_running_stack_answers_with_paris(stack: Stack, page: Page) -> None:
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(stack.ui_url)
    figures = page.locator("#figures")
    expect(figures).to_have_text("smollm2-135m-instruct")
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")
    expect(figures).to_contain_text("tokens/s")
    expect(figures).to_contain_text("first token after")
    assert [url for url in elsewhere if not url.startswith((stack.ui_url, "data:", "blob:"))] == []


def test_the_page_is_ready_whatever_the_api_does(scripted: Scripted) -> None:
    assert httpx.get(f"{scripted.down_url}/health").json() == {"status": "ok"}


# --- over a scripted engine ----------------------------------------------------------------------------


def test_stop_ends_the_generation_and_the_page_can_go_on(scripted: Scripted, page: Page) -> None:
    scripted.engine.reset(TextDelta("Once upon a time", 4), HANG)
    page.goto(scripted.page_url)
    ask(page, "Tell me a story")
    expect(last_answer(page)).to_contain_text("Once upon a time")
    page.get_by_role("button", name="Stop").click()
    scripted.engine.wait_until_closed()
    scripted.engine.reset()
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")


def test_closing_the_page_ends_the_generation(scripted: Scripted, page: Page) -> None:
    scripted.engine.reset(*[TextDelta("and then ", 2)] * 100_000)
    page.goto(scripted.page_url)
    ask(page, "Tell me a story")
    expect(last_answer(page)).to_contain_text("and then and then")
    page.close()
    scripted.engine.wait_until_closed(timeout_s=30)


def test_a_full_queue_is_retried_and_then_reported_with_its_reason(scripted: Scripted, page: Page) -> None:
    scripted.engine.reset(Failed("queue_full", "the queue is full", retry_after_s=0.1))
    page.goto(scripted.page_url)
    ask(page, "Hello?")
    expect(page.get_by_text("The model is busy")).to_be_visible()
    expect(page.get_by_text("the queue is full")).to_be_visible()
    assert len(scripted.engine.requests) == 4


def test_an_error_in_mid_answer_keeps_what_was_said(scripted: Scripted, page: Page) -> None:
    scripted.engine.reset(TextDelta("Half an ans", 3), Failed("engine_error", "the engine stopped"))
    page.goto(scripted.page_url)
    ask(page, "Hello?")
    expect(page.get_by_text("the engine stopped")).to_be_visible()
    expect(page.get_by_text("Half an ans")).to_be_visible()
    assert len(scripted.engine.requests) == 1


def test_the_conversation_goes_on_after_an_error_without_it(
    scripted: Scripted, page: Page, model_dir: Path
) -> None:
    scripted.engine.reset(Failed("engine_error", "the engine stopped"))
    page.goto(scripted.page_url)
    ask(page, "Lost question")
    expect(page.get_by_text("the engine stopped")).to_be_visible()
    scripted.engine.reset()
    ask(page, "Second question")
    expect(last_answer(page)).to_contain_text("Paris")
    [request] = scripted.engine.requests
    prompt = load_tokenizer(model_dir).decode(list(request.prompt_ids))
    assert "Second question" in prompt
    assert "Lost question" not in prompt
    assert "the engine stopped" not in prompt


def test_a_refused_key_is_reported_with_the_way_to_set_one(scripted: Scripted, page: Page) -> None:
    page.goto(scripted.refused_url)
    expect(page.locator("#figures")).to_contain_text("The API key was refused")
    expect(page.locator("#figures")).to_contain_text("OPENAI_API_KEY")


def test_an_api_that_is_down_is_reported_with_its_address(scripted: Scripted, page: Page) -> None:
    page.goto(scripted.down_url)
    expect(page.locator("#figures")).to_contain_text("The API cannot be reached")
    ask(page, "Hello?")
    expect(last_answer(page)).to_contain_text(NOWHERE)


def test_a_conversation_beyond_the_context_is_reported_with_the_way_out(
    scripted: Scripted, page: Page
) -> None:
    page.goto(scripted.page_url)
    ask(page, "word " * 300)
    expect(page.get_by_text("The conversation is too long")).to_be_visible()
    expect(page.get_by_text("Start a new one")).to_be_visible()
    assert scripted.engine.requests == []
