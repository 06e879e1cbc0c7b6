"""The API of an image model, over anything that paints: `/imagine` and OpenAI's images."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from serve_apps.auth import ApiKeys
from serve_apps.errors import ApiError
from serve_apps.openai_api import ServedModel, openai_app
from serve_apps.request_log import record_of
from serve_apps.stable_diffusion.painting import Painting
from serve_apps.stable_diffusion.protocol import ImageRequest, of_body, of_query
from serve_apps.strict_json import parse
from serve_apps.transport import read_json_body, until_disconnect

_BODY_BYTES = 1024 * 1024
# Tells which seed was drawn, so that an image can be had again.
SEED_HEADER = "x-seed"

# A PNG. May raise `ApiError`; is cancelled when the client goes away.
Paint = Callable[[Painting], Awaitable[bytes]]


def create_api(
    *,
    served_name: str,
    sizes: Sequence[int],
    paint: Paint,
    keys: ApiKeys | None,
    release: Callable[[], str | None],
    answers_carry_id: bool = True,
) -> FastAPI:
    """The app; see `serve_apps.openai_api.openai_app`. `sizes` are those that are compiled."""
    # Tells clients that this model paints, and what it can be asked for.
    model = ServedModel(served_name, release, image_sizes=[f"{size}x{size}" for size in sizes])
    routes = _Routes(model, sizes, paint)

    def add_routes(guarded: APIRouter) -> None:
        guarded.add_api_route("/imagine", routes.imagine, methods=["GET"], response_model=None)
        guarded.add_api_route(
            "/v1/images/generations", routes.generate, methods=["POST"], response_model=None
        )

    described = "GET /imagine and POST /v1/images/generations"
    return openai_app(model, keys, add_routes, described=described, answers_carry_id=answers_carry_id)


class _Routes:
    def __init__(self, model: ServedModel, sizes: Sequence[int], paint: Paint) -> None:
        self._model = model
        self._sizes = sizes
        self._paint = paint

    async def imagine(self, request: Request) -> Response:
        """`GET /imagine?prompt=`: a PNG."""
        painting = of_query(request.query_params, self._sizes)
        # Nothing is read from a GET, so the client's leaving can be listened for only after its empty body.
        await request.body()
        png = await self._painted(request, painting)
        return Response(png, media_type="image/png", headers={SEED_HEADER: str(painting.seed)})

    async def generate(self, request: Request) -> Response:
        """`POST /v1/images/generations`."""
        asked = parse(ImageRequest, await read_json_body(request, _BODY_BYTES))
        if asked.model is not None:
            self._model.check_name(asked.model)
        painting = of_body(asked, self._sizes)
        png = await self._painted(request, painting)
        image = {"b64_json": base64.b64encode(png).decode("ascii")}
        return JSONResponse(
            {"created": int(time.time()), "data": [image]}, headers={SEED_HEADER: str(painting.seed)}
        )

    async def _painted(self, request: Request, painting: Painting) -> bytes:
        record = record_of(request)
        try:
            png = await until_disconnect(request, self._paint(painting))
        except ApiError as error:
            record.outcome = error.error.code or str(error.status)
            raise
        record.outcome = "ok"
        return png
