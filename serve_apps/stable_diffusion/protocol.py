"""What clients may send: `GET /imagine` and OpenAI's `POST /v1/images/generations`, strictly typed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from serve_apps import errors
from serve_apps.errors import ApiError
from serve_apps.stable_diffusion.painting import Painting
from serve_apps.strict_json import StrictModel, only

_PROMPT_CHARS = 4000
_SEEDS = 2**32
DEFAULT_STEPS = 30
DEFAULT_GUIDANCE = 7.5

Prompt = Annotated[str, Field(min_length=1, max_length=_PROMPT_CHARS)]
Seed = Annotated[int, Field(ge=0, lt=_SEEDS)]
Steps = Annotated[int, Field(ge=1, le=100)]
# Without guidance there is no pair, and the UNet is compiled for a pair.
Guidance = Annotated[float, Field(gt=1, le=30)]


class ImagineQuery(StrictModel, strict=False):
    """`GET /imagine`. A query is text, so numbers are read from it."""

    prompt: Prompt
    img_size: int | None = None
    seed: Seed | None = None
    steps: Steps = DEFAULT_STEPS
    guidance: Guidance = DEFAULT_GUIDANCE


class ImageRequest(StrictModel):
    """`POST /v1/images/generations`; `seed`, `steps` and `guidance` are extensions."""

    prompt: Prompt
    model: str | None = None
    size: str | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    user: str | None = None

    background: Annotated[object, only("auto", "opaque", instead="leave it out")] = None
    moderation: Annotated[object, only("auto", instead="leave it out")] = None
    n: Annotated[object, only(1, instead="send the request several times")] = None
    output_compression: Annotated[object, only(100, instead="a PNG has no loss")] = None
    output_format: Annotated[object, only("png", instead="convert it in the client")] = None
    partial_images: Annotated[object, only(0, instead="leave it out")] = None
    quality: Annotated[object, only("auto", "standard", instead="use steps")] = None
    response_format: Annotated[object, only("b64_json", instead="no image is kept here")] = None
    stream: Annotated[object, only(False, instead="leave it out")] = None
    style: Annotated[object, only(instead="say it in the prompt")] = None

    @field_validator("size")
    @classmethod
    def _is_square(cls, size: str | None) -> str | None:
        if size in (None, "auto"):
            return None
        width, _, height = size.partition("x")
        if not width.isdecimal() or width != height or len(width) > 4:
            raise PydanticCustomError("invalid_value", "must be a square such as 512x512")
        return size


def of_query(query: Mapping[str, str], sizes: Sequence[int]) -> Painting:
    """The painting that the query of `GET /imagine` asks for. Raises `ApiError` (422)."""
    try:
        asked = ImagineQuery.model_validate(dict(query))
        size = _size(asked.img_size, sizes, "img_size")
    except ValidationError as error:
        raise _unprocessable(errors.from_validation(error.errors(include_url=False))) from None
    except ApiError as error:
        raise _unprocessable(error) from None
    return Painting(asked.prompt, size, _seed(asked.seed), asked.steps, asked.guidance)


def of_body(asked: ImageRequest, sizes: Sequence[int]) -> Painting:
    """The painting that a request asks for. Raises `ApiError` (400)."""
    size = _size(int(asked.size.partition("x")[0]) if asked.size else None, sizes, "size")
    return Painting(
        asked.prompt,
        size,
        _seed(asked.seed),
        asked.steps or DEFAULT_STEPS,
        asked.guidance or DEFAULT_GUIDANCE,
    )


def _size(asked: int | None, sizes: Sequence[int], param: str) -> int:
    if asked is None:
        return sizes[0]
    if asked not in sizes:
        raise errors.invalid(
            f"{param}: images of {asked} pixels are not compiled here; compiled are "
            f"{', '.join(map(str, sizes))}.",
            param=param,
            code="size_not_compiled",
        )
    return asked


def _seed(asked: int | None) -> int:
    return secrets.randbelow(_SEEDS) if asked is None else asked


def _unprocessable(error: ApiError) -> ApiError:
    return ApiError(422, error.error.message, param=error.error.param, code=error.error.code)
