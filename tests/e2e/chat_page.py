"""The chat page as a reader uses it."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=60_000)

_FRAMES_GO_BY = """async () => {
  for (let frame = 0; frame < 5; frame++) await new Promise(requestAnimationFrame);
}"""


def ask(page: Page, text: str) -> None:
    page.locator("#message textarea").fill(text)
    page.get_by_role("button", name="Send").click()


def answers(page: Page) -> Locator:
    return page.locator(".bot.message")


def last_answer(page: Page) -> Locator:
    return answers(page).last


def open_settings(page: Page) -> None:
    """Unfold them. Gradio gives the fields their first values once more in a frame after all are there."""
    page.get_by_role("button", name="Settings").click()
    for label in ("System prompt", "number input for Temperature"):
        expect(page.get_by_label(label)).to_be_visible()
    page.evaluate(_FRAMES_GO_BY)
