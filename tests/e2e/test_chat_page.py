"""The chat page in a real browser: over the running stack, and over the real API with a scripted engine."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Page, expect

from chat_ui.app import create_app
from chat_ui.settings import Settings
from serve_apps import errors
from serve_apps.auth import ApiKeys
from serve_apps.errors import ApiError
from serve_apps.llm.api import create_api
from serve_apps.llm.engine import Event, Failed, Finished, GenerationRequest, TextDelta
from serve_apps.llm.prompts import Prompts, load_tokenizer
from serve_apps.stable_diffusion.api import create_api as create_images_api
from serve_apps.stable_diffusion.painting import Painting
from tests.e2e.chat_page import ask, last_answer, open_settings
from tests.e2e.conftest import Stack
from tests.serve.scripted import HANG, ScriptedEngine, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

MODEL = "scripted"
SECOND_MODEL = "second"
IMAGE_MODEL = "painter"
SECOND_ANSWER = (TextDelta("I am the second.", 4), Finished("stop", prompt_tokens=12, completion_tokens=5))
NOWHERE = "http://127.0.0.1:9/v1"
KEY = "a-key-for-the-tests-of-the-page"


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
class ScriptedPainter:
    """Paints in one colour, which the seed sets; or fails; or takes for ever."""

    asked: list[Painting] = field(default_factory=list[Painting])
    cancelled: list[Painting] = field(default_factory=list[Painting])
    failure: ApiError | None = None
    hangs: bool = False
    garbles: bool = False

    async def paint(self, painting: Painting) -> bytes:
        self.asked.append(painting)
        if self.failure:
            raise self.failure
        try:
            await asyncio.sleep(60 if self.hangs else 0.1)
        except asyncio.CancelledError:
            self.cancelled.append(painting)
            raise
        if self.garbles:
            return b"no PNG"
        png = io.BytesIO()
        Image.new("RGB", (painting.size, painting.size), colour_of(painting.seed)).save(png, format="PNG")
        return png.getvalue()


def colour_of(seed: int) -> tuple[int, int, int]:
    return seed % 256, seed // 256 % 256, 40


@dataclass
class Pages:
    """Addresses of pages over scripted engines and a scripted painter."""

    engine: SlowEngine
    painter: ScriptedPainter
    normal: str
    key_refused: str
    api_down: str
    two_models: str
    images_too: str
    only_images: str


@pytest.fixture(scope="module")
def running_pages(prompts: Prompts, keys_file: Path) -> Iterator[Pages]:
    engine, painter, keys = SlowEngine(), ScriptedPainter(), ApiKeys(keys_file)

    def api(name: str, behind: SlowEngine) -> FastAPI:
        return create_api(served_name=name, prompts=prompts, engine=behind, keys=keys, release=lambda: None)

    def images_api() -> FastAPI:
        return create_images_api(
            served_name=IMAGE_MODEL, sizes=[64, 128], paint=painter.paint, keys=keys, release=lambda: None
        )

    def page_over(key: str, **base_urls: str) -> str:
        return running.enter_context(serving(create_app(Settings(base_urls, "127.0.0.1", 0, key))))

    with ExitStack() as running:
        first = running.enter_context(serving(api(MODEL, engine))) + "/v1"
        second = running.enter_context(serving(api(SECOND_MODEL, SlowEngine(SECOND_ANSWER)))) + "/v1"
        images = running.enter_context(serving(images_api())) + "/v1"
        yield Pages(
            engine,
            painter,
            normal=page_over(KEY, first=first),
            key_refused=page_over("withdrawn", first=first),
            api_down=page_over(KEY, nowhere=NOWHERE),
            two_models=page_over(KEY, first=first, second=second),
            images_too=page_over(KEY, first=first, images=images),
            only_images=page_over(KEY, images=images),
        )


@pytest.fixture
def pages(running_pages: Pages) -> Pages:
    running_pages.engine.reset()
    painter = running_pages.painter
    painter.failure, painter.hangs, painter.garbles = None, False, False
    painter.asked.clear()
    painter.cancelled.clear()
    return running_pages


# --- the real thing ------------------------------------------------------------------------------------


def test_the_running_stack_answers_with_paris(stack: Stack, page: Page) -> None:
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(stack.ui_url)
    figures = page.locator("#figures")
    expect(figures).to_have_text("smollm2-135m-instruct")
    open_settings(page)
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


def test_the_model_is_told_the_system_prompt_first(pages: Pages, page: Page, model_dir: Path) -> None:
    page.goto(pages.normal)
    open_settings(page)
    page.get_by_label("System prompt").fill("Answer like a pirate.")
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")
    [request] = pages.engine.requests
    prompt = load_tokenizer(model_dir).decode(list(request.prompt_ids))
    assert prompt.startswith("<|im_start|>system\nAnswer like a pirate.<|im_end|>")


@pytest.mark.parametrize("kind", ["JSON", "Markdown"])
def test_the_conversation_is_saved_as_a_file(pages: Pages, page: Page, kind: str) -> None:
    page.goto(pages.normal)
    page.get_by_role("button", name=f"Save as {kind}").click()
    expect(page.get_by_text("There is no conversation to save yet")).to_be_visible()
    ask(page, "What is the <capital> of France?")
    expect(page.locator("#figures")).to_contain_text("6 tokens")
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save as {kind}").click()
    text = download.value.path().read_text()
    if kind == "Markdown":
        assert download.value.suggested_filename == "conversation.md"
        assert "## You\n\nWhat is the <capital> of France?\n\n## scripted\n\nThe capital is Paris.\n" in text
        return
    assert download.value.suggested_filename == "conversation.json"
    assert json.loads(text) == {
        "model": MODEL,
        "temperature": 0.2,
        "messages": [
            {"role": "user", "content": "What is the <capital> of France?"},
            {"role": "assistant", "content": "The capital is Paris."},
        ],
    }


# --- images ----------------------------------------------------------------------------------------------


def paint(page: Page, prompt: str, *, size: str | None = None, seed: str = "") -> None:
    page.get_by_role("tab", name="Images").click()
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed").fill(seed)
    if size:
        page.locator("#size input").click()
        page.get_by_role("option", name=size).click()
    page.get_by_role("button", name="Paint").click()


def test_there_is_a_tab_to_paint_in_where_a_model_paints(pages: Pages, page: Page) -> None:
    page.goto(pages.normal)
    expect(page.locator("#figures")).to_have_text(MODEL)
    expect(page.get_by_role("tab", name="Images")).to_have_count(0)
    page.goto(pages.images_too)
    expect(page.get_by_role("tab", name="Images")).to_be_visible()
    ask(page, "What is the capital of France?")
    expect(last_answer(page)).to_contain_text("Paris")


def test_an_image_is_painted_as_asked_and_downloaded(pages: Pages, page: Page) -> None:
    page.goto(pages.images_too)
    paint(page, "A lighthouse", size="128x128", seed="4711")
    expect(page.locator("#painting")).to_contain_text(f"{IMAGE_MODEL} · 128x128 · seed 4711")
    [painting] = pages.painter.asked
    assert (painting.prompt, painting.size, painting.seed) == ("A lighthouse", 128, 4711)
    with page.expect_download() as download:
        page.locator("#picture").get_by_label("Download").click()
    picture = Image.open(download.value.path())
    assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (128, 128), colour_of(4711))


def test_without_a_seed_one_is_drawn_and_told(pages: Pages, page: Page) -> None:
    page.goto(pages.images_too)
    paint(page, "A lighthouse")
    expect(page.locator("#painting")).to_contain_text("64x64 · seed")
    [painting] = pages.painter.asked
    expect(page.locator("#painting")).to_contain_text(f"seed {painting.seed} ")


@pytest.mark.parametrize(
    ("prompt", "seed", "told"),
    [
        ("  ", "", "Say in the prompt what to paint"),
        ("A cat", "many", "The seed 'many' is no whole number"),
        ("A cat", "-1", "The seed '-1' is no whole number"),
        ("A cat", "1" * 5000, f"The seed '{'1' * 20}' is no whole number"),
        ("A cat", str(2**32), "seed"),  # in the API's own words
        ("x" * 4001, "", "prompt"),
    ],
)
def test_what_cannot_be_painted_is_told(pages: Pages, page: Page, prompt: str, seed: str, told: str) -> None:
    page.goto(pages.images_too)
    paint(page, prompt, seed=seed)
    expect(page.locator("#painting")).to_contain_text("⚠️")
    expect(page.locator("#painting")).to_contain_text(told)
    expect(page.get_by_role("button", name="Paint")).to_be_visible()
    assert pages.painter.asked == []


def test_an_error_of_the_painter_is_told_and_the_next_image_is_painted(pages: Pages, page: Page) -> None:
    pages.painter.failure = errors.overloaded("the painter fell off its ladder", retry_after_s=0.1)
    page.goto(pages.images_too)
    paint(page, "A lighthouse")
    expect(page.locator("#painting")).to_contain_text("The model is busy")
    expect(page.locator("#painting")).to_contain_text("fell off its ladder")
    pages.painter.failure = None
    page.get_by_role("button", name="Paint").click()
    expect(page.locator("#painting")).to_contain_text("seed")


def test_an_answer_without_an_image_is_told(pages: Pages, page: Page) -> None:
    pages.painter.garbles = True
    page.goto(pages.images_too)
    paint(page, "A lighthouse")
    expect(page.locator("#painting")).to_contain_text("The API sent no image")
    expect(page.get_by_role("button", name="Paint")).to_be_visible()


def test_stop_ends_the_painting(pages: Pages, page: Page) -> None:
    pages.painter.hangs = True
    page.goto(pages.images_too)
    paint(page, "A lighthouse")
    expect(page.locator("#painting")).to_contain_text("Painting, 1 s")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#painting")).to_have_text("Stopped.")
    wait_until(lambda: pages.painter.cancelled, "the end of the painting", timeout_s=30)
    pages.painter.hangs = False
    page.get_by_role("button", name="Paint").click()
    expect(page.locator("#painting")).to_contain_text("seed")


def test_who_leaves_the_page_leaves_no_painting_behind(pages: Pages, page: Page) -> None:
    pages.painter.hangs = True
    page.goto(pages.images_too)
    paint(page, "A lighthouse")
    expect(page.locator("#painting")).to_contain_text("Painting, 1 s")
    page.goto("about:blank")
    wait_until(lambda: pages.painter.cancelled, "the end of the painting", timeout_s=30)


def test_where_only_images_are_served_nothing_offers_to_chat(pages: Pages, page: Page) -> None:
    page.goto(pages.only_images)
    expect(page.get_by_role("button", name="Paint")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
    expect(page.get_by_role("tab", name="Images")).to_be_hidden()
