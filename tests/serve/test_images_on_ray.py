"""The image application on a real Ray, with a tiny pipeline: `/imagine` through the proxy and a painter."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from serve_apps.model_tiny import TINY_STABLE_DIFFUSION
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from tests.serve.ray_app import on_ray

MODEL = "pictures"


@pytest.fixture(scope="module")
def url(pipeline_dir: Path) -> Iterator[str]:
    def build() -> Any:
        from serve_apps.stable_diffusion.app import build_app

        return build_app(
            StableDiffusionArgs(model=TINY_STABLE_DIFFUSION, served_name=MODEL, sizes=[64, 128], auth="none")
        )

    with on_ray(build) as url:
        yield url


def imagine(url: str, **query: Any) -> httpx.Response:
    return httpx.get(f"{url}/imagine", params={"prompt": "a cat", "steps": 2, **query}, timeout=120)


def test_imagine_answers_with_a_png_of_the_asked_size(url: str) -> None:
    for size in (64, 128):
        answer = imagine(url, img_size=size)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        picture = Image.open(io.BytesIO(answer.content))
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (size, size))


def test_clients_at_once_get_the_image_of_their_own_seed(url: str) -> None:
    alone = [imagine(url, seed=seed).content for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: imagine(url, seed=seed).content, range(4)))
    assert together == alone
    assert len(set(alone)) == 4


def test_openais_client_gets_the_same_image(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)
    answer = client.images.generate(model=MODEL, prompt="a cat", extra_body={"seed": 1, "steps": 2})
    assert answer.data
    assert base64.b64decode(answer.data[0].b64_json or "") == imagine(url, seed=1).content


def test_a_size_that_is_not_compiled_is_a_422_and_the_next_one_is_painted(url: str) -> None:
    refused = imagine(url, img_size=512)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "size_not_compiled")
    assert imagine(url).status_code == 200
