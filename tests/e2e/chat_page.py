"""The chat page as a reader uses it."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=60_000)


def ask(page: Page, text: str) -> None:
    page.locator("#message textarea").fill(text)
    page.get_by_role("button", name="Send").click()


def answers(page: Page) -> Locator:
    return page.locator(".bot.message")


def last_answer(page: Page) -> Locator:
    return answers(page).last


def open_settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
