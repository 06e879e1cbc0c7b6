"""What every API here has: `/health`, `/v1/models`, API keys, OpenAI's error bodies and the request log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import APIRouter, Depends, FastAPI, Request
from openai.types import Model

from serve_apps import errors
from serve_apps.auth import ApiKeys
from serve_apps.budgets import Budgets
from serve_apps.request_log import RequestLog, RequestRecord, record_of


class ServedModel:
    """The one model of an API: the routes that tell of it, and whether a request is for it.

    `more` is what its entry in `/v1/models` says beyond OpenAI's fields.
    """

    def __init__(self, name: str, release: Callable[[], str | None], **more: object) -> None:
        self.name = name
        self.release = release
        card = Model(id=name, object="model", created=int(time.time()), owned_by="neuron-serve")
        self._card = card.to_dict() | more

    async def health(self) -> dict[str, str | None]:
        """Which release answers here. Open to probes."""
        return {"status": "ok", "release": self.release(), "model": self.name}

    async def models(self) -> dict[str, object]:
        """The one model."""
        return {"object": "list", "data": [self._card]}

    async def model(self, model: str) -> dict[str, object]:
        """The one model, by its name."""
        self.check_name(model)
        return self._card

    def check_name(self, model: str) -> None:
        """Raise `ApiError` (404) for a request that names another model."""
        if model != self.name:
            raise errors.model_not_found(model, self.name)


def openai_app(
    model: ServedModel,
    keys: ApiKeys | None,
    add_routes: Callable[[APIRouter], None],
    *,
    described: str,
    budgets: Budgets | None = None,
    answers_carry_id: bool = True,
    observe: Callable[[RequestRecord, str], None] = lambda _record, _route: None,
) -> FastAPI:
    """The app with the routes of `add_routes`, which `described` names for those who ask for another one.

    Without `keys` anybody may use it; `/health` is open in any case. `budgets` limits each key.
    `answers_carry_id` is off where a server in front adds the request id to answers itself. `observe` is
    told of every request that has ended.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_api_route("/health", model.health, methods=["GET"])
    check = [] if keys is None else [Depends(_key_check(keys, budgets or Budgets()))]
    guarded = APIRouter(dependencies=check)
    guarded.add_api_route("/v1/models", model.models, methods=["GET"])
    guarded.add_api_route("/v1/models/{model:path}", model.model, methods=["GET"])
    add_routes(guarded)
    app.include_router(guarded)
    errors.install(app, f"GET /v1/models, {described}")
    app.add_middleware(RequestLog, model=model.name, answers_carry_id=answers_carry_id, observe=observe)
    return app


def _key_check(keys: ApiKeys, budgets: Budgets) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        key = keys.check(request.headers.get("authorization"))
        budgets.admit(key)
        record_of(request).charge = partial(budgets.charge, key)

    return check
