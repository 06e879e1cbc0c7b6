"""The APIs behind the page: which models they have, and answers as they come."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import cast

import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

# The client retries what is safe to repeat (nothing has been streamed yet): lost connections, 429 and 5xx,
# with a back-off of at most a few seconds, or what Retry-After says.
_MAX_RETRIES = 3
_CONNECT_TIMEOUT_S = 5.0
# A queue in front of the model may hold the first token back for long.
_READ_TIMEOUT_S = 600.0
_LIST_TIMEOUT_S = 5.0


class ApiError(Exception):
    """Something the reader of the page should know: a headline, and what can be done about it."""

    def __init__(self, headline: str, advice: str) -> None:
        super().__init__(headline)
        self.headline = headline
        self.advice = advice


@dataclass(frozen=True)
class Answer:
    """An answer so far. Times are seconds since the request; `tokens` is known at the end."""

    text: str
    first_token_s: float
    last_token_s: float
    tokens: int | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Speed after the first token; None until it is known."""
        took = self.last_token_s - self.first_token_s
        return (self.tokens - 1) / took if self.tokens and self.tokens > 1 and took > 0 else None


class Apis:
    """Clients of all the APIs, and the models found there."""

    def __init__(self, base_urls: dict[str, str], api_key: str | None) -> None:
        timeout = openai.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        self._clients = {
            name: AsyncOpenAI(
                base_url=url,
                api_key=api_key or "none",  # the client insists on one; an API without keys ignores it
                timeout=timeout,
                max_retries=_MAX_RETRIES,
            )
            for name, url in base_urls.items()
        }
        self._owner: dict[str, AsyncOpenAI] = {}

    async def models(self) -> list[str]:
        """Names of the models of all APIs that answer. Raises `ApiError` if none does."""
        found = await asyncio.gather(
            *(self._models_of(client) for client in self._clients.values()), return_exceptions=True
        )
        for client, names in zip(self._clients.values(), found, strict=True):
            if isinstance(names, list):
                self._owner.update(dict.fromkeys(names, client))
        problems = [result for result in found if isinstance(result, BaseException)]
        if len(problems) == len(found):
            raise problems[0]
        return list(self._owner)

    async def _models_of(self, client: AsyncOpenAI) -> list[str]:
        try:
            page = await client.with_options(timeout=_LIST_TIMEOUT_S, max_retries=0).models.list()
        except openai.OpenAIError as error:
            raise _problem(error, client) from error
        return [model.id for model in page.data]

    async def answer(
        self, model: str, conversation: Iterable[ChatCompletionMessageParam], temperature: float
    ) -> AsyncGenerator[Answer, None]:
        """The answer, growing. Closing the iterator closes the connection, and so ends the generation.

        Raises `ApiError`, before the first piece or in the middle.
        """
        client = self._owner[model]
        began = time.monotonic()
        answer: Answer | None = None
        try:
            stream = await client.chat.completions.create(
                model=model,
                messages=conversation,
                temperature=temperature,
                stream=True,
                stream_options={"include_usage": True},
            )
            async with stream:
                async for chunk in stream:
                    now = time.monotonic() - began
                    text = chunk.choices[0].delta.content if chunk.choices else None
                    if text:
                        answer = Answer(
                            (answer.text if answer else "") + text,
                            answer.first_token_s if answer else now,
                            now,
                        )
                        yield answer
                    if chunk.usage and answer:
                        yield dataclasses.replace(answer, tokens=chunk.usage.completion_tokens)
        except openai.OpenAIError as error:
            raise _problem(error, client) from error


def _problem(error: openai.OpenAIError, client: AsyncOpenAI) -> ApiError:
    address = str(client.base_url).rstrip("/")
    if isinstance(error, openai.APITimeoutError):
        return ApiError("The API takes too long", f"{address} did not answer in time; try again.")
    if isinstance(error, openai.APIConnectionError):
        return ApiError("The API cannot be reached", f"Nothing answers at {address}; is it running?")
    if isinstance(error, openai.AuthenticationError):
        return ApiError("The API key was refused", f"{_said(error)} The page takes it from OPENAI_API_KEY.")
    if isinstance(error, openai.RateLimitError):
        return ApiError("The model is busy", f"{_said(error)} Try again in a moment.")
    if isinstance(error, openai.APIError) and error.code == "context_length_exceeded":
        return ApiError("The conversation is too long", f"{_said(error)} Start a new one.")
    return ApiError("The API reported an error", _said(error))


def _said(error: openai.OpenAIError) -> str:
    """The API's own sentence, out of an OpenAI error body where there is one."""
    body = error.body if isinstance(error, openai.APIError) else None
    if isinstance(body, dict):
        message = cast("dict[str, object]", body).get("message")
        if isinstance(message, str):
            return message
    return str(error)
