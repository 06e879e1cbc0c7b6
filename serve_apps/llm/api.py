"""The OpenAI-compatible HTTP API, over anything that generates.

Nothing here knows Ray: `create_api` takes the tokenizer's side (`Prompts`) and an object with `generate`,
and returns a FastAPI app. A request is authorised, read, parsed, tokenised and handed to the engine, whose
first event decides about the HTTP status: a refusal never hides in a stream that began with 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from secrets import token_hex
from typing import Annotated, Protocol, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse

from serve_apps import errors
from serve_apps.auth import ApiKeys
from serve_apps.budgets import Budgets
from serve_apps.errors import ApiError
from serve_apps.llm.answers import Answer, ChatAnswer, CompletionAnswer, server_sent_event
from serve_apps.llm.engine import Event, Failed, Finished, GenerationRequest, TextDelta
from serve_apps.llm.failures import engine_failed, from_failed
from serve_apps.llm.openapi import describe
from serve_apps.llm.prompts import DEFAULT_COMPLETION_TOKENS, Prompts
from serve_apps.llm.protocol import (
    ChatRequest,
    CompletionRequest,
    GenerationParameters,
    InferQuery,
    Message,
    parse_sentence,
)
from serve_apps.openai_api import ServedModel, openai_app
from serve_apps.request_log import RequestRecord, log_defect, record_of
from serve_apps.strict_json import parse
from serve_apps.transport import EventStream, read_json_body, until_disconnect

# A body may hold what fills the context many times over, and some JSON around it; more is not worth parsing.
_BODY_BYTES_FIXED = 1024 * 1024
_BODY_BYTES_PER_TOKEN = 64

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class Generates(Protocol):
    """What the API needs of an engine."""

    def generate(self, request: GenerationRequest, *, streamed: bool) -> AsyncGenerator[Event, None]:
        """See `serve_apps.llm.engine.Engine.generate`. May also raise `ApiError`.

        Not `streamed`: nothing of the answer is sent before its end, so that it may be computed again.
        """
        ...


def create_api(
    *,
    served_name: str,
    prompts: Prompts,
    engine: Generates,
    keys: ApiKeys | None,
    release: Callable[[], str | None],
    max_body_bytes: int | None = None,
    budgets: Budgets | None = None,
    answers_carry_id: bool = True,
    observe: Callable[[RequestRecord, str], None] = lambda _record, _route: None,
) -> FastAPI:
    """The app. Without `keys` anybody may use it; `/health`, which tells `release`, is open in any case.

    Longer bodies than `max_body_bytes` are refused; by default, what no prompt that fits needs.
    `answers_carry_id` is off where a server in front adds the request id to answers itself. `observe` is
    told of every request that has ended. `budgets` limits each key.
    """
    model = ServedModel(served_name, release)
    body_limit = max_body_bytes or _BODY_BYTES_FIXED + _BODY_BYTES_PER_TOKEN * prompts.max_model_len
    routes = _Routes(model, prompts, engine, body_limit)

    def add_routes(guarded: APIRouter) -> None:
        # Behind the key like all but health: it tells limits that only who may use the model needs.
        guarded.add_api_route("/openapi.json", routes.openapi(guarded=keys is not None), methods=["GET"])
        guarded.add_api_route("/v1/chat/completions", routes.chat, methods=["POST"], response_model=None)
        guarded.add_api_route("/v1/completions", routes.completion, methods=["POST"], response_model=None)
        guarded.add_api_route("/infer", routes.infer, methods=["GET"], response_model=None)
        guarded.add_api_route("/", routes.infer_body, methods=["POST"], response_model=None)

    described = "POST /v1/chat/completions and /v1/completions"
    return openai_app(
        model,
        keys,
        add_routes,
        described=described,
        budgets=budgets,
        answers_carry_id=answers_carry_id,
        observe=observe,
    )


class _Routes:
    """The routes and what they share."""

    def __init__(
        self, model: ServedModel, prompts: Prompts, engine: Generates, body_limit_bytes: int
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._engine = engine
        self._body_limit_bytes = body_limit_bytes
        # A long prompt takes a second to tokenise; meanwhile the streams of others must go on. One thread,
        # because the tokenizer does not take more.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    def openapi(self, *, guarded: bool) -> Callable[[], Awaitable[dict[str, object]]]:
        """The route that describes the others."""

        async def openapi() -> dict[str, object]:
            return describe(
                served_name=self._model.name,
                release=self._model.release(),
                max_model_len=self._prompts.max_model_len,
                vocabulary_size=self._prompts.vocabulary_size,
                guarded=guarded,
            )

        return openapi

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        asked = parse(ChatRequest, await self._body(request))
        self._model.check_name(asked.model)
        ids = await self._in_thread(self._prompts.chat, asked.messages)
        max_tokens = self._prompts.budget(ids, asked.token_limit, param="messages")
        answer = ChatAnswer(self._model.name, self._model.release(), include_usage=asked.include_usage)
        return await self._answer(request, asked, _generation(request, asked, ids, max_tokens), answer)

    async def completion(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        asked = parse(CompletionRequest, await self._body(request))
        self._model.check_name(asked.model)
        ids = await self._in_thread(self._prompts.completion, asked.prompt)
        max_tokens = self._prompts.budget(
            ids, asked.token_limit, default=DEFAULT_COMPLETION_TOKENS, param="prompt"
        )
        answer = CompletionAnswer(self._model.name, self._model.release(), include_usage=asked.include_usage)
        return await self._answer(request, asked, _generation(request, asked, ids, max_tokens), answer)

    async def infer(self, request: Request, query: Annotated[InferQuery, Query()]) -> Response:
        """`GET /infer?sentence=`: the most likely answer, as plain text."""
        return await self._infer(request, query.sentence)

    async def infer_body(self, request: Request) -> Response:
        """`POST /` with a JSON string: the most likely answer, as plain text."""
        return await self._infer(request, parse_sentence(await self._body(request)))

    async def _infer(self, request: Request, sentence: str) -> Response:
        asked = ChatRequest(model=self._model.name, messages=[Message.of_user(sentence)], temperature=0.0)
        ids = await self._in_thread(self._prompts.chat, asked.messages)
        max_tokens = self._prompts.budget(ids, None, param="sentence")
        generation = _generation(request, asked, ids, max_tokens)
        events = self._events(request, generation, streamed=False)
        text, _ = await until_disconnect(request, _collect(events))
        return PlainTextResponse(text)

    async def _answer(
        self, request: Request, asked: GenerationParameters, generation: GenerationRequest, answer: Answer
    ) -> Response:
        events = self._events(request, generation, streamed=bool(asked.stream))
        if asked.stream:
            first = await until_disconnect(request, anext(events))
            return EventStream(_stream(first, events, answer, record_of(request)), source=events)
        text, finished = await until_disconnect(request, _collect(events))
        return Response(answer.whole(text, finished).to_json(indent=None), media_type="application/json")

    async def _events(
        self, request: Request, generation: GenerationRequest, *, streamed: bool
    ) -> AsyncGenerator[TextDelta | Finished, None]:
        """The engine's events, ended by `Finished`. Raises `ApiError` for every other end."""
        record = record_of(request)
        record.prompt_tokens = len(generation.prompt_ids)
        record.outcome = "disconnected"  # unless something below says otherwise
        try:
            async with aclosing(self._engine.generate(generation, streamed=streamed)) as events:
                async for event in events:
                    if isinstance(event, Failed):
                        raise from_failed(event)
                    if isinstance(event, TextDelta):
                        record.completion_tokens += event.tokens
                        record.settle()
                        yield event
                        continue
                    record.completion_tokens, record.outcome = event.completion_tokens, event.reason
                    record.queued_s, record.first_token_s = event.queued_s, event.first_token_s
                    record.settle()  # before its client can ask again
                    yield event
                    return
            raise engine_failed("The answer broke off; send the request again.")
        except ApiError as error:
            record.outcome = error.outcome
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.settle()  # who leaves pays for the prompt, although nothing came back
            raise

    async def _body(self, request: Request) -> bytes:
        return await read_json_body(request, self._body_limit_bytes)

    async def _in_thread(self, work: Callable[[_Given], _Result], given: _Given) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work, given)


def _generation(
    request: Request, asked: GenerationParameters, ids: Sequence[int], max_tokens: int
) -> GenerationRequest:
    return GenerationRequest(
        # Clients may use a request id twice, the engine may not.
        request_id=f"{record_of(request).request_id}/{token_hex(4)}",
        prompt_ids=tuple(ids),
        max_tokens=max_tokens,
        sampling=asked.sampling,
        stop=tuple(asked.stop or ()),
    )


async def _collect(events: AsyncGenerator[TextDelta | Finished, None]) -> tuple[str, Finished]:
    """The whole text and how it ended."""
    pieces: list[str] = []
    async with aclosing(events):
        event = await anext(events)
        while isinstance(event, TextDelta):
            pieces.append(event.text)
            event = await anext(events)
    return "".join(pieces), event


async def _stream(
    first: TextDelta | Finished,
    events: AsyncGenerator[TextDelta | Finished, None],
    answer: Answer,
    record: RequestRecord,
) -> AsyncGenerator[bytes, None]:
    """Server-sent events. The status is sent already, so a failure becomes the last event."""
    event = first
    try:
        yield answer.opening()
        while isinstance(event, TextDelta):
            if event.text:
                yield answer.piece(event.text)
            event = await anext(events)
        yield answer.closing(event)
    except ApiError as error:
        yield server_sent_event(error.body())
    except Exception as error:
        log_defect(record, error)
        yield server_sent_event(errors.internal().body())
