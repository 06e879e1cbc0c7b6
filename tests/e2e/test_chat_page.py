"""The chat page in a real browser: over the running stack, and over the real API with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Page, expect

from chat_ui.app import create_app
from chat_ui.settings import Settings
from serve_apps.auth import ApiKeys
from serve_apps.llm.api import create_api
from serve_apps.llm.engine import Event, Failed, Finished, GenerationRequest, TextDelta
from serve_apps.llm.prompts import Prompts, load_tokenizer
from tests.e2e.conftest import Stack
from tests.serve.scripted import HANG, ScriptedEngine, serving

pytestmark = pytest.mark.browser

MODEL = "scripted"
SECOND_MODEL = "second"
SECOND_ANSWER = (TextDelta("I am the second.", 4), Finished("stop", prompt_tokens=12, completion_tokens=5))
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


class SlowEngine(ScriptedEngine):
    """Takes its time between two pieces, as a model does."""

    async def generate(self, request: GenerationRequest, *, streamed: bool) -> AsyncGenerator[Event, None]:
        async with aclosing(super().generate(request, streamed=streamed)) as events:
            async for event in events:
                yield event
                await asyncio.sleep(0.02)


@dataclass
class Pages:
    """Addresses of pages over scripted engines."""

    engine: SlowEngine
    normal: str
    key_refused: str
    api_down: str
    two_models: str


@pytest.fixture(scope="module")
def running_pages(prompts: Prompts, keys_file: Path) -> Iterator[Pages]:
    engine, keys = SlowEngine(), ApiKeys(keys_file)

    def api(name: str, behind: SlowEngine) -> FastAPI:
        return create_api(served_name=name, prompts=prompts, engine=behind, keys=keys, release=lambda: None)

    def page_over(key: str, **base_urls: str) -> str:
        return running.enter_context(serving(create_app(Settings(base_urls, "127.0.0.1", 0, key))))

    with ExitStack() as running:
        first = running.enter_context(serving(api(MODEL, engine))) + "/v1"
        second = running.enter_context(serving(api(SECOND_MODEL, SlowEngine(SECOND_ANSWER)))) + "/v1"
        yield Pages(
            engine,
            normal=page_over(KEY, first=first),
            key_refused=page_over("withdrawn", first=first),
            api_down=page_over(KEY, nowhere=NOWHERE),
            two_models=page_over(KEY, first=first, second=second),
        )


@pytest.fixture
def pages(running_pages: Pages) -> Pages:
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
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("number input for Temperature").fill("0")  # the same answer every time
    page.keyboard.press("Tab")
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")
    expect(figures).to_contain_text("tokens/s")
    expect(figures).to_contain_text("first token after")
    assert [url for url in elsewhere if not url.startswith((stack.ui_url, "data:", "blob:"))] == []


def test_the_page_is_ready_whatever_the_api_does(pages: Pages) -> None:
    assert httpx.get(f"{pages.api_down}/health").json() == {"status": "ok"}


# --- over a scripted engine ----------------------------------------------------------------------------


def test_stop_ends_the_generation_and_the_page_can_go_on(pages: Pages, page: Page) -> None:
    pages.engine.reset(TextDelta("Once upon a time", 4), HANG)
    page.goto(pages.normal)
    ask(page, "Tell me a story")
    expect(last_answer(page)).to_contain_text("Once upon a time")
    page.get_by_role("button", name="Stop").click()
    pages.engine.wait_until_closed()
    pages.engine.reset()
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")


def test_closing_the_page_ends_the_generation(pages: Pages, page: Page) -> None:
    pages.engine.reset(*[TextDelta("and then ", 2)] * 100_000)
    page.goto(pages.normal)
    ask(page, "Tell me a story")
    expect(last_answer(page)).to_contain_text("and then and then")
    page.close()
    pages.engine.wait_until_closed(timeout_s=30)


def test_a_full_queue_is_retried_and_then_reported_with_its_reason(pages: Pages, page: Page) -> None:
    pages.engine.reset(Failed("queue_full", "the queue is full", retry_after_s=0.1))
    page.goto(pages.normal)
    ask(page, "Hello?")
    expect(page.get_by_text("The model is busy")).to_be_visible()
    expect(page.get_by_text("the queue is full")).to_be_visible()
    assert len(pages.engine.requests) == 6


def test_an_error_in_mid_answer_keeps_what_was_said(pages: Pages, page: Page) -> None:
    pages.engine.reset(TextDelta("Half an ans", 3), Failed("engine_error", "the engine stopped"))
    page.goto(pages.normal)
    ask(page, "Hello?")
    expect(page.get_by_text("the engine stopped")).to_be_visible()
    expect(page.get_by_text("Half an ans")).to_be_visible()
    expect(page.get_by_text("The answer broke off")).to_be_visible()
    assert len(pages.engine.requests) == 1
    pages.engine.reset()
    page.get_by_role("button", name="Retry").click()
    expect(last_answer(page)).to_contain_text("Paris")


def test_the_conversation_goes_on_after_an_error_without_it(
    pages: Pages, page: Page, model_dir: Path
) -> None:
    pages.engine.reset(Failed("engine_error", "the engine stopped"))
    page.goto(pages.normal)
    ask(page, "Lost question")
    expect(page.get_by_text("the engine stopped")).to_be_visible()
    pages.engine.reset()
    ask(page, "Second question")
    expect(last_answer(page)).to_contain_text("Paris")
    [request] = pages.engine.requests
    prompt = load_tokenizer(model_dir).decode(list(request.prompt_ids))
    assert "Second question" in prompt
    assert "Lost question" not in prompt
    assert "the engine stopped" not in prompt


def test_a_refused_key_is_reported_with_the_way_to_set_one(pages: Pages, page: Page) -> None:
    page.goto(pages.key_refused)
    expect(page.locator("#figures")).to_contain_text("The API key was refused")
    expect(page.locator("#figures")).to_contain_text("OPENAI_API_KEY")


def test_an_api_that_is_down_is_reported_with_its_address(pages: Pages, page: Page) -> None:
    page.goto(pages.api_down)
    expect(page.locator("#figures")).to_contain_text("The API cannot be reached")
    ask(page, "Hello?")
    expect(last_answer(page)).to_contain_text(NOWHERE)


def test_a_conversation_beyond_the_context_is_reported_with_the_way_out(pages: Pages, page: Page) -> None:
    page.goto(pages.normal)
    ask(page, "word " * 300)
    expect(page.get_by_text("The conversation is too long")).to_be_visible()
    expect(page.get_by_text("Start a new one")).to_be_visible()
    assert pages.engine.requests == []


def test_the_reader_picks_one_of_several_models(pages: Pages, page: Page) -> None:
    page.goto(pages.two_models)
    expect(page.locator("#figures")).to_have_text(MODEL)
    page.locator("#model input").click()
    page.get_by_role("option", name=SECOND_MODEL).click()
    expect(page.locator("#figures")).to_have_text(SECOND_MODEL)
    ask(page, "Who are you?")
    expect(last_answer(page)).to_contain_text("I am the second.")
    assert pages.engine.requests == []
