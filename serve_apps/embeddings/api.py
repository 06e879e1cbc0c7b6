"""The OpenAI-compatible API of an embedding model, over anything that encodes token ids."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from serve_apps import errors
from serve_apps.auth import ApiKeys
from serve_apps.embeddings.protocol import EmbeddingRequest, answer
from serve_apps.embeddings.tokens import Tokens
from serve_apps.errors import ApiError
from serve_apps.openai_api import ServedModel, openai_app
from serve_apps.request_log import record_of
from serve_apps.strict_json import parse
from serve_apps.transport import read_json_body, until_disconnect

_BODY_BYTES = 32 * 1024 * 1024

# Texts as token ids to one vector each, in their order. May raise `ApiError`.
Encode = Callable[[list[list[int]]], Awaitable[list[list[float]]]]


def create_api(
    *,
    served_name: str,
    tokens: Tokens,
    dimensions: int,
    encode: Encode,
    keys: ApiKeys | None,
    release: Callable[[], str | None],
    answers_carry_id: bool = True,
) -> FastAPI:
    """The app; see `serve_apps.openai_api.openai_app`. `dimensions` is the length of a vector."""
    model = ServedModel(served_name, release)
    routes = _Routes(model, tokens, dimensions, encode)

    def add_routes(guarded: APIRouter) -> None:
        guarded.add_api_route("/v1/embeddings", routes.embeddings, methods=["POST"], response_model=None)

    return openai_app(
        model, keys, add_routes, described="POST /v1/embeddings", answers_carry_id=answers_carry_id
    )


class _Routes:
    def __init__(self, model: ServedModel, tokens: Tokens, dimensions: int, encode: Encode) -> None:
        self._model = model
        self._tokens = tokens
        self._dimensions = dimensions
        self._encode = encode
        # Thousands of texts take a second to tokenise; meanwhile others must be answered.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    async def embeddings(self, request: Request) -> JSONResponse:
        """`POST /v1/embeddings`."""
        record = record_of(request)
        try:
            asked = parse(EmbeddingRequest, await read_json_body(request, _BODY_BYTES))
            self._model.check_name(asked.model)
            self._check_dimensions(asked.dimensions)
            loop = asyncio.get_running_loop()
            texts = await loop.run_in_executor(self._tokenizing, self._tokens.of, asked.input)
            record.prompt_tokens = sum(map(len, texts))
            vectors = await until_disconnect(request, self._encode(texts))
        except ApiError as error:
            record.outcome = error.error.code or str(error.status)
            raise
        record.outcome = "ok"
        return JSONResponse(
            answer(self._model.name, vectors, tokens=_total(texts), encoding=asked.encoding_format)
        )

    def _check_dimensions(self, dimensions: int | None) -> None:
        if dimensions not in (None, self._dimensions):
            raise errors.invalid(
                f"dimensions: this model's vectors have {self._dimensions} (got {dimensions}); leave it out.",
                param="dimensions",
                code="unsupported_value",
            )


def _total(texts: Sequence[Sequence[int]]) -> int:
    return sum(map(len, texts))
