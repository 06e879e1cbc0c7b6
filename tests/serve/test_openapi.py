"""The API against its own description: schemathesis sends what the document allows, and what it does not."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from schemathesis.core.transport import Response

from serve_apps.auth import ApiKeys
from serve_apps.llm.api import create_api
from serve_apps.llm.openapi import describe
from serve_apps.llm.prompts import Prompts, load_tokenizer
from tests.serve.conftest import MODEL
from tests.serve.scripted import ScriptedEngine, serving

KEY = "sk-described"
MAX_MODEL_LEN = 8192
HEADERS = {"Authorization": f"Bearer {KEY}"}
DOCUMENT = describe(
    served_name=MODEL,
    release="release-1",
    max_model_len=MAX_MODEL_LEN,
    vocabulary_size=49152,
    guarded=True,
)
# What a schema cannot say: prompt and answer share the context, the two names of one limit must agree, and
# the model's vocabulary may have nothing for a control character.
BEYOND_SCHEMA = ("context_length_exceeded", "differs from max_tokens", "has no tokens")


@pytest.fixture(scope="module")
def url(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("described") / "keys"
    keys.write_text(KEY)
    app = create_api(
        served_name=MODEL,
        prompts=Prompts(load_tokenizer(model_dir), MAX_MODEL_LEN),
        engine=ScriptedEngine(),
        keys=ApiKeys(keys),
        release=lambda: "release-1",
    )
    with serving(app) as url:
        yield url


@schemathesis.check
def valid_data_is_served(ctx: Any, response: Response, case: Any) -> None:
    """`positive_data_acceptance`, but for what no schema can say."""
    if not any(reason in response.text for reason in BEYOND_SCHEMA):
        CHECKS.get_one("positive_data_acceptance")(ctx, response, case)


@schemathesis.check
def invalid_data_is_refused(ctx: Any, response: Response, case: Any) -> None:
    """`negative_data_rejection`, but for a query that was made invalid and is valid as it was sent."""
    sent = parse_qsl(urlsplit(response.request.url or "").query, keep_blank_values=True)
    if not (case.operation.path == "/infer" and len(sent) == 1 and sent[0][0] == "sentence" and sent[0][1]):
        CHECKS.get_one("negative_data_rejection")(ctx, response, case)


@schemathesis.check
def errors_are_openai_errors(ctx: Any, response: Response, case: Any) -> None:
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


described = schemathesis.openapi.from_dict(DOCUMENT)
# The same requests every time, so that a change is refused for what it does.
QUICK = settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=500, derandomize=False)
REPLACED = [CHECKS.get_one(name) for name in ("positive_data_acceptance", "negative_data_rejection")]


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Hypothesis parses Python, and a garbage collection in the middle lets another thread parse as well.

    CPython 3.11 then raises a SystemError (https://github.com/python/cpython/issues/106905).
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def hold(case: Any, url: str) -> None:
    case.call_and_validate(base_url=url, headers=HEADERS, excluded_checks=REPLACED, timeout=30)


def test_the_description_is_served_to_who_has_a_key(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json", headers=HEADERS).json() == json.loads(json.dumps(DOCUMENT))
    assert httpx.get(f"{url}/openapi.json").status_code == 401


@described.parametrize()
@QUICK
def test_the_api_does_what_it_says(case: Any, url: str) -> None:
    hold(case, url)


@pytest.mark.slow
@described.parametrize()
@THOROUGH
def test_the_api_does_what_it_says_at_length(case: Any, url: str) -> None:
    hold(case, url)
