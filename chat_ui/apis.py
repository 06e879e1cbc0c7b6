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
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

# The client retries what is safe to repeat (no answer has begun): lost connections, 429 and 5xx, with a
# back-off that grows from half a second to eight, or after what Retry-After says. Together that is longer
# than the death of a worker goes unnoticed.
_MAX_RETRIES = 5
# A stream that breaks before its first word is as safe to repeat, but beyond what the client looks at.
_STREAM_RETRIES = 2
_STREAM_RETRY_S = 1.0
_CONNECT_TIMEOUT_S = 5.0
# A queue in front of the model may hold the first token back for long.
_READ_TIMEOUT_S = 600.0
_LIST_TIMEOUT_S = 5.0
# Gradio's button under the last message.
_SEND_AGAIN = "Retry, the round arrow below, sends the question again."


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
        for retries_left in range(_STREAM_RETRIES, -1, -1):
            answer: Answer | None = None
            try:
                stream = await client.chat.completions.create(
                    model=model,
                    messages=conversation,
                    temperature=temperature,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            except openai.OpenAIError as error:
                raise _problem(error, client) from error
            try:
                async with stream:
                    async for chunk in stream:
                        if grown := _grown(answer, chunk, time.monotonic() - began):
                            answer = grown
                            yield answer
                return
            except openai.OpenAIError as error:
                if answer is not None:
                    raise _broken_off(error) from error
                if not retries_left:
                    raise _problem(error, client) from error
            await asyncio.sleep(_STREAM_RETRY_S)


def _grown(answer: Answer | None, chunk: ChatCompletionChunk, now_s: float) -> Answer | None:
    """The answer with what the chunk adds; None if it adds nothing."""
    text = chunk.choices[0].delta.content if chunk.choices else None
    if text:
        return Answer(
            (answer.text if answer else "") + text, answer.first_token_s if answer else now_s, now_s
        )
    if chunk.usage and answer:
        return dataclasses.replace(answer, tokens=chunk.usage.completion_tokens)
    return None


def _broken_off(error: openai.OpenAIError) -> ApiError:
    lost = isinstance(error, openai.APIConnectionError)
    why = "The connection to the model was lost." if lost else _said(error)
    return ApiError("The answer broke off", f"{why} {_SEND_AGAIN}")


def _problem(error: openai.OpenAIError, client: AsyncOpenAI) -> ApiError:
    address = str(client.base_url).rstrip("/")
    if isinstance(error, openai.APITimeoutError):
        return ApiError("The API takes too long", f"{address} did not answer in time. {_SEND_AGAIN}")
    if isinstance(error, openai.APIConnectionError):
        return ApiError(
            "The API cannot be reached", f"Nothing answers at {address}; is it running? {_SEND_AGAIN}"
        )
    if isinstance(error, openai.AuthenticationError):
        return ApiError("The API key was refused", f"{_said(error)} The page takes it from OPENAI_API_KEY.")
    if isinstance(error, openai.RateLimitError):
        return ApiError("The model is busy", f"{_said(error)} {_SEND_AGAIN}")
    if isinstance(error, openai.APIError) and error.code == "context_length_exceeded":
        return ApiError("The conversation is too long", f"{_said(error)} Start a new one.")
    if isinstance(error, openai.InternalServerError):
        return ApiError("The model cannot answer now", f"{_said(error)} {_SEND_AGAIN}")
    return ApiError("The API reported an error", _said(error))


def _said(error: openai.OpenAIError) -> str:
    """The API's own sentence, out of an OpenAI error body where there is one."""
    body = error.body if isinstance(error, openai.APIError) else None
    if isinstance(body, dict):
        message = cast("dict[str, object]", body).get("message")
        if isinstance(message, str):
            return message
    return str(error)
