"""The API's own description: an OpenAPI 3.2 document, with the limits of the model that is served.

3.2 is the first version that can say what the events of a stream are.

Bodies are parsed from bytes, so that errors can name the parameter at fault, and FastAPI cannot describe
what it does not parse. Schemas come from the classes that do: requests from `protocol`, answers from the
`openai` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from serve_apps.llm.answers import CompletionChunk
from serve_apps.llm.protocol import ChatRequest, CompletionRequest

_REFERENCE = "#/components/schemas/{model}"

_ERRORS = {
    400: "The request cannot be served; `param` names the field at fault.",
    401: "No API key, or one that is not valid here.",
    404: "Another model is served here.",
    408: "The client read too slowly.",
    413: "The body is larger than any prompt that fits.",
    415: "The body is not JSON.",
    429: "The key's budget is used up; `Retry-After` says when to come back.",
    500: "The engine failed, or this server did.",
    503: "No engine has the request at the moment; `Retry-After` says when to come back.",
    504: "The request was not complete within its time.",
}
_OF_GENERATION = (400, 408, 413, 415, 429, 500, 503, 504)
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}


class ErrorBody(BaseModel):
    """What every error answers."""

    error: ErrorObject


class ModelList(BaseModel):
    """The served models: one."""

    object: str
    data: list[Model]


class Health(BaseModel):
    """Which release answers."""

    status: str
    release: str | None
    model: str


def describe(
    *, served_name: str, release: str | None, max_model_len: int, vocabulary_size: int, guarded: bool
) -> dict[str, Any]:
    """The document. `guarded`: every route but `/health` wants an API key."""
    limits = _Limits(served_name, max_model_len, vocabulary_size)
    security: dict[str, Any] = {"security": [{"apiKey": []}]} if guarded else {}
    schemes = {"securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}}} if guarded else {}
    return {
        "openapi": "3.2.0",
        "info": {
            "title": f"{served_name} behind the OpenAI API",
            "version": release or "0",
            "description": "Works with clients of OpenAI's API: set their base URL to this server's `/v1`.",
        },
        "paths": _paths(served_name, guarded=guarded),
        "components": {"schemas": limits.schemas(), **schemes},
        **security,
    }


class _Limits:
    """The schemas of requests and answers, narrowed to what this server takes."""

    def __init__(self, served_name: str, max_model_len: int, vocabulary_size: int) -> None:
        token_limit: Any = (int | None, Field(default=None, ge=1, lt=max_model_len))
        self._chat = create_model(
            "ChatRequest", __base__=ChatRequest, max_tokens=token_limit, max_completion_tokens=token_limit
        )
        self._completion = create_model(
            "CompletionRequest", __base__=CompletionRequest, max_tokens=token_limit
        )
        self._served_name = served_name
        self._largest_token = vocabulary_size - 1

    def schemas(self) -> dict[str, Any]:
        """By name, as `components.schemas` has them."""
        streamable = (ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk)
        answers = (*streamable, Model, ModelList, Health, ErrorBody)
        models: list[tuple[type[BaseModel], Any]] = [
            (model, "validation") for model in (self._chat, self._completion, *answers)
        ]
        _, document = models_json_schema(models, ref_template=_REFERENCE)
        schemas: dict[str, Any] = document["$defs"]
        for name in ("ChatRequest", "CompletionRequest"):
            schemas[name]["properties"]["model"]["enum"] = [self._served_name]
        _bound_integers(schemas["CompletionRequest"]["properties"]["prompt"], self._largest_token)
        return schemas


def _bound_integers(schema: Any, maximum: int) -> None:
    """Give every integer of a schema its maximum."""
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, (dict, list)):
            _bound_integers(part, maximum)
    if isinstance(schema, dict) and schema.get("type") == "integer":
        schema["maximum"] = maximum


def _paths(served_name: str, *, guarded: bool) -> dict[str, Any]:
    def answers(good: Mapping[str, Any], *statuses: int) -> dict[str, Any]:
        refused = (401, *statuses) if guarded else statuses
        return {"200": good, **{str(status): _error(status) for status in sorted(refused)}}

    model_name = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": [served_name]},
    }
    sentence = {
        "name": "sentence",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        "/health": {
            "get": {
                "summary": "Which release answers; open to probes",
                "security": [],
                "responses": {"200": _content("Ready.", "Health")},
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This document",
                "responses": answers(_json("The document.", {"type": "object"})),
            }
        },
        "/v1/models": {
            "get": {
                "summary": "The served model",
                "responses": answers(_content("A list of one.", "ModelList")),
            }
        },
        "/v1/models/{model}": {
            "get": {
                "summary": "The served model, by its name",
                "parameters": [model_name],
                "responses": answers(_content("The model.", "Model"), 404),
            }
        },
        "/v1/chat/completions": {
            "post": {
                "summary": "Chat, plain or streamed",
                "requestBody": _body("ChatRequest"),
                "responses": answers(
                    _streamable("ChatCompletion", "ChatCompletionChunk"), 404, *_OF_GENERATION
                ),
            }
        },
        "/v1/completions": {
            "post": {
                "summary": "Text or token ids in, text out, plain or streamed",
                "requestBody": _body("CompletionRequest"),
                "responses": answers(_streamable("Completion", "CompletionChunk"), 404, *_OF_GENERATION),
            }
        },
        "/infer": {
            "get": {
                "summary": "The most likely answer as plain text",
                "parameters": [sentence],
                "responses": answers(_plain_text(), *_OF_GENERATION),
            }
        },
        "/": {
            "post": {
                "summary": "The most likely answer as plain text",
                "requestBody": _required_json({"type": "string", "minLength": 1}),
                "responses": answers(_plain_text(), *_OF_GENERATION),
            }
        },
    }


def _named(schema: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=schema)}


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _content(description: str, schema: str) -> dict[str, Any]:
    return _json(description, _named(schema))


def _streamable(whole: str, chunk: str) -> dict[str, Any]:
    answer = _content(f"The answer; with `stream`, server-sent events, each a `{chunk}`.", whole)
    data = {
        "anyOf": [
            {"const": "[DONE]"},
            {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [_named(chunk), _named("ErrorBody")]},
            },
        ]
    }
    event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    answer["content"]["text/event-stream"] = {"itemSchema": event}
    return answer


def _plain_text() -> dict[str, Any]:
    return {"description": "The answer.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def _error(status: int) -> dict[str, Any]:
    headers = {"headers": _RETRY_AFTER} if status in (429, 503) else {}
    return {**_content(_ERRORS[status], "ErrorBody"), **headers}


def _body(schema: str) -> dict[str, Any]:
    return _required_json(_named(schema))


def _required_json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}
