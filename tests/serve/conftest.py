from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from serve_apps.llm.api import create_api
from serve_apps.llm.prompts import Prompts, load_tokenizer
from tests.serve.scripted import ScriptedEngine, serving

MODEL = "smollm2/135m"  # with a slash, as Hugging Face names have one
MAX_MODEL_LEN = 256


@dataclass
class Api:
    """A running API and the engine behind it."""

    url: str
    engine: ScriptedEngine

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=30)

    @property
    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=30)

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)


@pytest.fixture(scope="session")
def prompts(model_dir: Path) -> Prompts:
    return Prompts(load_tokenizer(model_dir), MAX_MODEL_LEN)


@pytest.fixture(scope="session")
def _running_api(prompts: Prompts) -> Iterator[Api]:
    engine = ScriptedEngine()
    app = create_api(
        served_name=MODEL, prompts=prompts, engine=engine, keys=None, release=lambda: "release-1"
    )
    with serving(app) as url:
        yield Api(url, engine)


@pytest.fixture
def api(_running_api: Api) -> Api:
    _running_api.engine.reset()
    return _running_api
