"""`POST /v1/embeddings` as OpenAI has it, strictly typed, and its answer."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from serve_apps.strict_json import StrictModel

# OpenAI's own limit (https://platform.openai.com/docs/api-reference/embeddings/create, 2026-11).
MAX_TEXTS = 2048
Text = str | list[int]


def _as_texts(value: object) -> object:
    """One text or several, each a string or token ids, as a list of them."""
    texts = [value] if isinstance(value, str) or _is_token_ids(value) else value
    if not isinstance(texts, list) or not 1 <= len(cast("list[object]", texts)) <= MAX_TEXTS:
        raise PydanticCustomError(
            "invalid_input", "must be a text or a list of 1 to {most} texts", {"most": MAX_TEXTS}
        )
    for text in cast("list[object]", texts):
        if not text or not (isinstance(text, str) or _is_token_ids(text)):
            raise PydanticCustomError(
                "invalid_input", "every text must be a string or a list of token ids, and not empty"
            )
    return cast("list[object]", texts)


def _is_token_ids(value: object) -> bool:
    # `type(...) is int`, because true and false are integers to Python
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(item) is int for item in cast("list[object]", value))
    )


class EmbeddingRequest(StrictModel):
    """`POST /v1/embeddings`."""

    model: str
    input: Annotated[list[Text], BeforeValidator(_as_texts)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


def answer(
    model: str, vectors: Sequence[Sequence[float]], *, tokens: int, encoding: str | None
) -> dict[str, object]:
    """The body of an answer."""
    encode = _base64 if encoding == "base64" else list[float]
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(vectors)
    ]
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: Sequence[float]) -> str:
    """Little-endian float32, as OpenAI's client decodes it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
