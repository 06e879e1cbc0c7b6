"""The images API over the tiny pipeline, through the real `openai` client."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from serve_apps.auth import ApiKeys
from serve_apps.stable_diffusion.api import create_api
from serve_apps.stable_diffusion.args import StableDiffusionArgs
from serve_apps.stable_diffusion.painter import Painter
from serve_apps.stable_diffusion.painting import Painting
from tests.serve.scripted import serving
from tests.waiting import wait_until

MODEL = "tiny"
KEY = "sk-test"
HEADERS = {"authorization": f"Bearer {KEY}"}


@dataclass
class Images:
    url: str
    cancelled: list[Painting] = field(default_factory=list[Painting])

    def imagine(self, **query: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/imagine", params=query, headers=HEADERS, timeout=60)

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def images(pipeline_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    directory = tmp_path_factory.mktemp("images")
    sizes = [64, 128]
    args = StableDiffusionArgs(model=str(pipeline_dir), served_name=MODEL, sizes=sizes)
    painter = Painter(pipeline_dir, args)
    (directory / "keys").write_text(KEY)
    served = Images("")

    async def paint(painting: Painting) -> bytes:
        if painting.prompt == "wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                served.cancelled.append(painting)
                raise
        return await asyncio.to_thread(painter.paint, painting, Event())

    app = create_api(
        served_name=MODEL,
        sizes=sizes,
        paint=paint,
        keys=ApiKeys(Path(directory / "keys")),
        release=lambda: "release-1",
    )
    with serving(app) as served.url:
        yield served


def size_of(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image.size


@pytest.mark.parametrize(("query", "size"), [({}, 64), ({"img_size": 64}, 64), ({"img_size": "128"}, 128)])
def test_imagine_gives_a_png_of_the_asked_size(images: Images, query: dict[str, Any], size: int) -> None:
    answer = images.imagine(prompt="a cat", steps=2, **query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert size_of(answer.content) == (size, size)


def test_the_seed_that_was_drawn_gives_the_same_image_again(images: Images) -> None:
    first = images.imagine(prompt="a cat", steps=2)
    again = images.imagine(prompt="a cat", steps=2, seed=first.headers["x-seed"])
    assert again.content == first.content
    assert images.imagine(prompt="a cat", steps=2, seed=1).content != first.content


def test_openais_client_gets_the_same_image(images: Images) -> None:
    answer = images.client.images.generate(
        model=MODEL,
        prompt="a cat",
        size="64x64",  # pyright: ignore[reportArgumentType]
        response_format="b64_json",
        n=1,
        extra_body={"seed": 5, "steps": 2, "guidance": 7.5},
    )
    assert answer.data
    png = base64.b64decode(answer.data[0].b64_json or "")
    assert png == images.imagine(prompt="a cat", seed=5, steps=2).content


MALFORMED: list[dict[str, Any]] = [
    {},
    {"prompt": ""},
    {"prompt": "x" * 4001},
    *(
        {"prompt": "a", "img_size": size}
        for size in ("0", "-64", "63", "96", "512", "big", "64.5", "64x64", "")
    ),
    *({"prompt": "a", "seed": seed} for seed in ("-1", "4294967296", "x")),
    *({"prompt": "a", "steps": steps} for steps in ("0", "101", "1.5")),
    *({"prompt": "a", "guidance": guidance} for guidance in ("1", "31", "nan", "much")),
    {"prompt": "a", "sampler": "euler"},
]


@pytest.mark.parametrize("query", MALFORMED, ids=lambda query: str(query)[:40])
def test_a_malformed_imagine_is_a_422_that_names_the_parameter(images: Images, query: dict[str, Any]) -> None:
    answer = images.imagine(**query)
    error = answer.json()["error"]
    assert answer.status_code == 422
    assert error["param"] == [*query, "prompt"][1 if len(query) > 1 else 0]


def test_the_sizes_that_are_compiled_are_named(images: Images) -> None:
    assert "compiled are 64, 128" in images.imagine(prompt="a", img_size=512).json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "size": "512x512"}, "size"),
        ({"prompt": "a", "size": "64x128"}, "size"),
        ({"prompt": "a", "size": "big"}, "size"),
        ({"prompt": "a", "n": 2}, "n"),
        ({"prompt": "a", "response_format": "url"}, "response_format"),
        ({"prompt": "a", "quality": "hd"}, "quality"),
        ({"prompt": "a", "style": "vivid"}, "style"),
        ({"prompt": "a", "steps": "2"}, "steps"),
        ({"prompt": "a", "mask": "x"}, "mask"),
    ],
)
def test_what_openais_route_cannot_do_is_a_400(images: Images, body: dict[str, Any], param: str) -> None:
    url = f"{images.url}/v1/images/generations"
    answer = httpx.post(url, json={"model": MODEL, **body}, headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_keys_and_names_are_checked_as_everywhere(images: Images) -> None:
    assert httpx.get(f"{images.url}/imagine", params={"prompt": "a"}).status_code == 401
    assert [model.id for model in images.client.models.list()] == [MODEL]
    with pytest.raises(openai.NotFoundError):
        images.client.images.generate(model="other", prompt="a")


def test_the_list_of_models_tells_that_this_one_paints_and_which_sizes(images: Images) -> None:
    [model] = images.client.models.list()
    assert model.to_dict()["image_sizes"] == ["64x64", "128x128"]
    assert images.client.models.retrieve(MODEL).to_dict()["image_sizes"] == ["64x64", "128x128"]


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/imagine", {"params": {"prompt": "wait"}}),
        ("POST", "/v1/images/generations", {"json": {"prompt": "wait"}}),
    ],
)
def test_the_image_of_a_client_that_left_is_cancelled(
    images: Images, method: str, path: str, content: dict[str, Any]
) -> None:
    before = len(images.cancelled)
    with pytest.raises(httpx.ReadTimeout):
        httpx.request(method, images.url + path, headers=HEADERS, timeout=0.5, **content)
    deadline = time.monotonic() + 10
    while len(images.cancelled) == before:
        assert time.monotonic() < deadline, "the work went on"
        threading.Event().wait(0.05)


def test_the_log_has_no_prompt(images: Images, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    images.imagine(prompt="a secret", steps=1)
    wait_until(lambda: "GET /imagine status=200 finish_reason=ok" in caplog.text)
    said = [record.getMessage() for record in caplog.records if record.name != "httpx"]  # the client's own
    assert [line for line in said if "secret" in line] == []
