"""What went wrong, in words for the reader of the page."""

from __future__ import annotations

from typing import cast

import openai
from openai import AsyncOpenAI

# Gradio's button under the last message, and the one of the image tab.
SEND_AGAIN = "Retry, the round arrow below, sends the question again."
PAINT_AGAIN = "Paint sends it again."


class ApiError(Exception):
    """Something the reader of the page should know: a headline, and what can be done about it."""

    def __init__(self, headline: str, advice: str) -> None:
        super().__init__(headline)
        self.headline = headline
        self.advice = advice


def broken_off(error: openai.OpenAIError) -> ApiError:
    """For an answer that ended in the middle."""
    lost = isinstance(error, openai.APIConnectionError)
    why = "The connection to the model was lost." if lost else _said(error)
    return ApiError("The answer broke off", f"{why} {SEND_AGAIN}")


def problem(error: openai.OpenAIError, client: AsyncOpenAI, again: str = SEND_AGAIN) -> ApiError:
    """For a request that got no answer; `again` says how to repeat it."""
    address = str(client.base_url).rstrip("/")
    if isinstance(error, openai.APITimeoutError):
        return ApiError("The API takes too long", f"{address} did not answer in time. {again}")
    if isinstance(error, openai.APIConnectionError):
        return ApiError("The API cannot be reached", f"Nothing answers at {address}; is it running? {again}")
    if isinstance(error, openai.AuthenticationError):
        return ApiError("The API key was refused", f"{_said(error)} The page takes it from OPENAI_API_KEY.")
    code = error.code if isinstance(error, openai.APIError) else None
    if isinstance(error, openai.RateLimitError) or code == "overloaded":
        return ApiError("The model is busy", f"{_said(error)} {again}")
    if code == "context_length_exceeded":
        return ApiError("The conversation is too long", f"{_said(error)} Start a new one.")
    if isinstance(error, openai.InternalServerError):
        return ApiError("The model cannot answer now", f"{_said(error)} {again}")
    return ApiError("The API reported an error", _said(error))


def _said(error: openai.OpenAIError) -> str:
    """The API's own sentence, out of an OpenAI error body where there is one."""
    body = error.body if isinstance(error, openai.APIError) else None
    if isinstance(body, dict):
        message = cast("dict[str, object]", body).get("message")
        if isinstance(message, str):
            return message
    return str(error)
