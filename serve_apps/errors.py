"""Every way a request can fail, as the OpenAI error body, status and headers that clients expect.

Messages name the parameter, the limit and the way out. They show a value only where it cannot be text of a
prompt: what users write belongs into neither answers about mistakes nor logs of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from openai.types.shared import ErrorObject
from starlette.exceptions import HTTPException

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

DEFAULT_RETRY_AFTER_S = 1.0

_CODE_OF_PYDANTIC_TYPE = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported_value": "unsupported_value",
    "json_invalid": "invalid_json",
}
# Numbers are shown only below this size: a longer one tells the user nothing.
_LARGEST_SHOWN_NUMBER = 2.0**64
_LONGEST_SHOWN_STRING = 40
_LONGEST_SHOWN_NAME = 64
# Parameters whose values are settings, not text that a user wrote.
_SETTINGS = {
    *(
        "model",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "best_of",
    ),
    *("encoding_format", "dimensions", "size", "quality", "background"),
    *("output_format", "img_size", "steps", "guidance"),
    *(
        "stream",
        "stream_options",
        "echo",
        "logprobs",
        "top_logprobs",
        "presence_penalty",
        "frequency_penalty",
    ),
    *("tool_choice", "parallel_tool_calls", "store", "service_tier", "reasoning_effort", "verbosity"),
}


class ApiError(Exception):
    """A request that ends with an OpenAI error body instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorObject(message=message, type=kind, param=param, code=code)
        self.headers = dict(headers or {})

    @property
    def outcome(self) -> str:
        """One word for logs and metrics."""
        return self.error.code or f"http_{self.status}"

    def body(self) -> dict[str, object]:
        """The JSON object that goes over the wire."""
        return {"error": self.error.to_dict()}

    def response(self) -> JSONResponse:
        """The whole HTTP answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the client can repair the request; the message says how."""
    return ApiError(400, message, param=param, code=code)


def context_length_exceeded(
    *, prompt_tokens: int, max_tokens: int | None, max_model_len: int, param: str
) -> ApiError:
    """400: prompt and answer together do not fit into the model's context."""
    asked = "" if max_tokens is None else f" and {max_tokens} for the answer"
    way_out = "shorten the prompt" if max_tokens is None else "shorten the prompt or lower max_tokens"
    return ApiError(
        400,
        f"This model's maximum context length is {max_model_len} tokens, prompt and answer together; "
        f"the request has {prompt_tokens} in the prompt{asked}: {way_out}.",
        param=param,
        code="context_length_exceeded",
    )


def model_not_found(model: str, served_name: str) -> ApiError:
    """404: the request is for a model that is not served here."""
    return ApiError(
        404,
        f"The model {_cut(model)!r} does not exist here; this server has {served_name!r}.",
        param="model",
        code="model_not_found",
    )


def invalid_api_key(message: str) -> ApiError:
    """401: no key, or one that is not known."""
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def overloaded(message: str, *, status: int = 503, retry_after_s: float | None = None) -> ApiError:
    """503 (or 429): nothing was computed, because others were first."""
    headers = retry_after(retry_after_s or DEFAULT_RETRY_AFTER_S)
    return ApiError(status, message, kind=SERVER_ERROR, code="overloaded", headers=headers)


def rate_limited(message: str, *, kind: str, retry_after_s: float) -> ApiError:
    """429: a budget of the API key is used up; `kind` is `requests` or `tokens`, as OpenAI has it."""
    headers = retry_after(retry_after_s)
    return ApiError(429, message, kind=kind, code="rate_limit_exceeded", headers=headers)


def unavailable(message: str) -> ApiError:
    """503: no engine has, or still has, the request; the same request may succeed later."""
    headers = retry_after(DEFAULT_RETRY_AFTER_S)
    return ApiError(503, message, kind=SERVER_ERROR, code="unavailable", headers=headers)


def internal() -> ApiError:
    """500: a defect of this server; the log has it under the request id."""
    return ApiError(
        500,
        "Internal error; the server's log has it under this request id.",
        kind=SERVER_ERROR,
        code="internal",
    )


def from_validation(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """400 for the first of pydantic's complaints (`ValidationError.errors()`); others may follow from it."""
    problem = problems[0]
    kind, location = cast(str, problem["type"]), cast("tuple[int | str, ...]", problem["loc"])
    param = _parameter(location)
    code = _CODE_OF_PYDANTIC_TYPE.get(kind, "invalid_value")
    if kind == "json_invalid":
        return invalid(f"The body is not valid JSON: {problem['ctx']['error']}.", code=code)
    if kind == "extra_forbidden":
        return invalid(f"Unknown parameter {param!r}; remove it.", param=param, code=code)
    if kind == "missing":
        return invalid(f"The parameter {param!r} is required; add it.", param=param, code=code)
    if not location:
        return invalid(f"The body is not what this route takes: {problem['msg']}.", code=code)
    shown = _shown_value(location, problem["input"])
    return invalid(f"{param}: {problem['msg']}{shown}.", param=param, code=code)


def install(app: FastAPI, routes: str) -> None:
    """Make every error that `app` answers an OpenAI error body. `routes` names those that there are."""

    async def on_api_error(request: Request, error: Exception) -> JSONResponse:
        return _answer(request, cast(ApiError, error))

    async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
        problems = cast(RequestValidationError, error).errors()
        # The first element says where FastAPI looked ("query"); clients know only the parameter.
        shortened = [{**problem, "loc": problem["loc"][1:]} for problem in problems]
        return _answer(request, from_validation(shortened))

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        return _answer(request, _from_http(request, cast(HTTPException, error), routes))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)


def _answer(request: Request, error: ApiError) -> JSONResponse:
    request.state.record.outcome = error.outcome
    return error.response()


def _from_http(request: Request, error: HTTPException, routes: str) -> ApiError:
    if error.status_code == 404:
        message = f"There is no such route; {routes} are."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"This route does not take {request.method}; use {allowed}."
    else:
        message = f"{error.detail}."
    return ApiError(error.status_code, message, code=f"http_{error.status_code}", headers=error.headers)


def retry_after(retry_after_s: float | None) -> dict[str, str]:
    """The header that says when to come back, whole seconds."""
    return {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}


def _parameter(location: Sequence[int | str]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return _cut(path.removeprefix("."))


def _shown_value(location: Sequence[int | str], value: object) -> str:
    if location[0] not in _SETTINGS:
        return ""
    if value is None or isinstance(value, bool):
        return f" (got {'null' if value is None else str(value).lower()})"
    if isinstance(value, (int, float)) and not abs(value) >= _LARGEST_SHOWN_NUMBER:
        return f" (got {value})"
    if isinstance(value, str) and len(value) <= _LONGEST_SHOWN_STRING:
        return f" (got {value!r})"
    return ""


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_SHOWN_NAME else name[:_LONGEST_SHOWN_NAME] + "…"
