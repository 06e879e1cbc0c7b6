"""What went wrong between this client and an API, said for the person at the terminal."""

from __future__ import annotations

from typing import cast

import openai


class ClientError(Exception):
    """Nothing the program can repair; the message says what the user can do."""


def explained(error: openai.OpenAIError, base_url: str) -> ClientError:
    """A sentence on what happened and one on the way out."""
    if isinstance(error, openai.APITimeoutError):
        return ClientError(f"{base_url} did not answer in time; try again, or raise --timeout")
    if isinstance(error, openai.APIConnectionError):
        return ClientError(f"nothing answers at {base_url}; is it running? --base-url names another API")
    if isinstance(error, openai.AuthenticationError):
        return ClientError(
            f"the API key was refused: {said(error)} Set OPENAI_API_KEY, or name a file with --api-key-file"
        )
    if isinstance(error, openai.RateLimitError | openai.InternalServerError):
        return ClientError(f"the API cannot answer now: {said(error)} Try again in a moment")
    if isinstance(error, openai.APIError) and error.code == "context_length_exceeded":
        return ClientError(f"the conversation is too long: {said(error)} /new starts another one")
    return ClientError(f"the API refused the request: {said(error)}")


def said(error: openai.OpenAIError) -> str:
    """The API's own sentence, out of an OpenAI error body where there is one."""
    body = error.body if isinstance(error, openai.APIError) else None
    if isinstance(body, dict):
        message = cast("dict[str, object]", body).get("message")
        if isinstance(message, str):
            return message
    return str(error)
