"""`make local ARGS=--ha` and `make hurt`, as a user tries them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from playwright.sync_api import Page, expect

from offline.errors import OfflineError
from offline.ha.hurt import PARTS
from offline.ha.store import find_server
from tests.e2e.chat_page import answers, last_answer
from tests.e2e.chat_page import ask as ask_page
from tests.e2e.conftest import START_TIMEOUT_S, Stack
from tests.e2e.test_local_run import MODEL
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spare(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    try:
        find_server()
    except OfflineError as missing:
        pytest.skip(str(missing))
    running = Stack.on_free_ports(tmp_path_factory.mktemp("ha"))
    started = running.offline(*running.run_arguments, "--ha", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    assert 'make hurt ARGS="head"' in started.stdout
    state = running.state
    yield running
    running.offline("stop")
    running.assert_nothing_left_of(state)


def ask(stack: Stack) -> str:
    client = openai.OpenAI(base_url=stack.api_url, api_key="unused", timeout=START_TIMEOUT_S, max_retries=0)
    question = "What is the capital of France?"
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=16
    )
    return answer.choices[0].message.content or ""


def test_the_model_answers_while_the_head_is_down_and_when_it_is_back(spare: Stack) -> None:
    before = spare.state.programs[PARTS["head"]]
    workers = [spare.state.programs[PARTS[name]] for name in ("worker-1", "worker-2")]
    hurt = spare.offline("hurt", "head", "--seconds", "15")
    assert hurt.returncode == 0, hurt.stderr
    assert "head is dead; it is started again in 15 s" in hurt.stdout
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        assert "Paris" in ask(spare)
    wait_until(lambda: "ray-head: works again after" in spare.log, "the head")
    assert spare.state.programs[PARTS["head"]] != before
    assert [spare.state.programs[PARTS[name]] for name in ("worker-1", "worker-2")] == workers
    assert "Paris" in ask(spare)


@pytest.mark.browser
def test_a_conversation_on_the_page_goes_on_without_the_head_and_when_it_is_back(
    spare: Stack, page: Page
) -> None:
    page.goto(spare.ui_url)
    talk(page, turns=1)
    back = spare.log.count("ray-head: works again after")
    hurt = spare.offline("hurt", "head", "--seconds", "20")
    assert hurt.returncode == 0, hurt.stderr
    talk(page, turns=3)
    assert spare.log.count("ray-head: works again after") == back, "the head came back too early to tell"
    wait_until(lambda: spare.log.count("ray-head: works again after") > back, "the head")
    talk(page, turns=4)


def talk(page: Page, turns: int) -> None:
    """Ask until the conversation has had this many answers, each of which arrives."""
    for turn in range(answers(page).count() + 1, turns + 1):
        ask_page(page, "What is the capital of France? Answer in one word.")
        expect(answers(page)).to_have_count(turn)
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        expect(page.get_by_text("⚠️")).to_have_count(0)
        assert last_answer(page).inner_text().strip()


def test_what_is_no_part_of_a_run_cannot_be_hurt(spare: Stack, tmp_path: Path) -> None:
    wrong = spare.offline("hurt", "tail")
    assert wrong.returncode == 2
    idle = Stack.on_free_ports(tmp_path).offline("hurt", "head")
    assert idle.returncode == 2
    assert "is not running; start it with: make local ARGS=--ha" in idle.stderr
