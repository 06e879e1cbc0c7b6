"""The APIs behind the page: which models they have, answers as they come, and images."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

import openai
from openai import AsyncOpenAI
from openai.types import Model
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from PIL import Image

from chat_ui.errors import PAINT_AGAIN, ApiError, broken_off, problem

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
# What the list of models says of one that paints, an extension of OpenAI's fields.
_IMAGE_SIZES = "image_sizes"
_SEED_HEADER = "x-seed"


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


@dataclass(frozen=True)
class Picture:
    """An image that was painted. `seed` is None where the API does not tell it."""

    image: Image.Image
    seed: str | None
    took_s: float


@dataclass
class Models:
    """Names of the models that are served: those that chat, and those that paint with their sizes."""

    chat: list[str] = field(default_factory=list[str])
    image: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


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
        self._models = Models()

    async def models(self) -> Models:
        """The models of all APIs that answer, or ever did. Raises `ApiError` if none answers now."""
        found = await asyncio.gather(
            *(self._models_of(client) for client in self._clients.values()), return_exceptions=True
        )
        for client, models in zip(self._clients.values(), found, strict=True):
            for model in models if isinstance(models, list) else []:
                self._remember(model, client)
        problems = [result for result in found if isinstance(result, BaseException)]
        if len(problems) == len(found):
            raise problems[0]
        return self._models

    def image_sizes(self, model: str | None) -> list[str]:
        """What a model that paints can be asked for, its default first."""
        return self._models.image.get(model or "", [])

    def _remember(self, model: Model, client: AsyncOpenAI) -> None:
        sizes = model.to_dict().get(_IMAGE_SIZES)
        if isinstance(sizes, list):
            self._models.image[model.id] = [str(size) for size in sizes]
        elif model.id not in self._owner:
            self._models.chat.append(model.id)
        self._owner[model.id] = client

    async def _models_of(self, client: AsyncOpenAI) -> list[Model]:
        try:
            page = await client.with_options(timeout=_LIST_TIMEOUT_S, max_retries=0).models.list()
        except openai.OpenAIError as error:
            raise problem(error, client) from error
        return page.data

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
                raise problem(error, client) from error
            try:
                async with stream:
                    async for chunk in stream:
                        if grown := _grown(answer, chunk, time.monotonic() - began):
                            answer = grown
                            yield answer
                return
            except openai.OpenAIError as error:
                if answer is not None:
                    raise broken_off(error) from error
                if not retries_left:
                    raise problem(error, client) from error
            await asyncio.sleep(_STREAM_RETRY_S)

    async def paint(self, model: str, prompt: str, size: str, seed: int | None) -> Picture:
        """The image of a prompt. Cancelling it closes the connection. Raises `ApiError`.

        `seed` is an extension of OpenAI's API, and is only sent if there is one.
        """
        client = self._owner[model]
        began = time.monotonic()
        try:
            raw = await client.images.with_raw_response.generate(
                model=model,
                prompt=prompt,
                size=size,  # pyright: ignore[reportArgumentType]
                response_format="b64_json",
                extra_body=None if seed is None else {"seed": seed},
            )
        except openai.OpenAIError as error:
            raise problem(error, client, PAINT_AGAIN) from error
        found: Any = raw.parse().data
        image = _opened(found[0].b64_json if found else None)
        if image is None:
            raise ApiError("The API sent no image", f"{model} answered without one. {PAINT_AGAIN}")
        return Picture(image, raw.headers.get(_SEED_HEADER), time.monotonic() - began)


def _opened(base64_text: str | None) -> Image.Image | None:
    """The image, or None if it is none."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(base64_text or "")))
        image.load()
    except (ValueError, OSError):
        return None
    return image


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
