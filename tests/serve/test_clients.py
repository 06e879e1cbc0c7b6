"""Clients that cannot live in the project's environment, and `curl`, against the running app."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_apps.auth import ApiKeys
from serve_apps.llm.api import create_api
from serve_apps.llm.engine import Failed
from serve_apps.llm.prompts import Prompts
from tests.serve.conftest import MODEL
from tests.serve.scripted import PARIS, ScriptedEngine, serving

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-clients.txt"
ENVIRONMENTS = HERE.parents[1] / ".cache" / "clients"
KEY = "sk-clients"
FULL = Failed("queue_full", "as many requests wait as may", retry_after_s=1)
ANSWER = "The capital is Paris."
# One script for each request that reaches the engine, in the programs' order.
REQUESTS = [PARIS, PARIS, PARIS, (FULL,), PARIS, (FULL,)]


@pytest.fixture
def url(prompts: Prompts, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "keys").write_text(KEY)
    app = create_api(
        served_name=MODEL,
        prompts=prompts,
        engine=ScriptedEngine(playlist=list(REQUESTS)),
        keys=ApiKeys(tmp_path / "keys"),
        release=lambda: None,
    )
    with serving(app) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """Python of an environment with the clients, made at need and kept for as long as the pins stay."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    home = ENVIRONMENTS / pins
    python = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if uv is None:
            pytest.skip("uv is not installed, which makes the environment of the clients")
        made = subprocess.run(
            f'"{uv}" venv --clear -q --python "{sys.executable}" "{home}" && '
            f'"{uv}" pip install -q --python "{python}" -r "{REQUIREMENTS}"',
            shell=True,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            pytest.skip(f"the clients cannot be installed: {made.stderr[-300:]}")
        ready.touch()
    return python


def outcome(interpreter: Path, program: str, url: str) -> dict[str, Any]:
    # LiteLLM would fetch a list of prices from the internet.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    command = [interpreter, HERE / "client_programs" / program, url, MODEL, KEY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "prefix", "overloaded", "bad_request", "unknown_model", "too_long"),
    [
        (
            *("langchain_chat.py", "OpenAI", "APIError", "InvalidRequestError", "ModelNotFoundError"),
            "ContextOverflowError",
        ),
        (
            *("litellm_chat.py", "", "ServiceUnavailableError", "BadRequestError", "NotFoundError"),
            "ContextWindowExceededError",
        ),
    ],
)
def test_a_client_works_unchanged(
    interpreter: Path,
    url: str,
    program: str,
    prefix: str,
    overloaded: str,
    bad_request: str,
    unknown_model: str,
    too_long: str,
) -> None:
    assert outcome(interpreter, program, url) == {
        "plain": ANSWER,
        "stream": ANSWER,
        "usage": 18,
        "no_tools": ANSWER,
        "retried": ANSWER,
        "overloaded": f"{prefix}{overloaded}",
        "tools": f"{prefix}{bad_request}",
        "unknown_model": f"{prefix}{unknown_model}",
        "wrong_key": f"{prefix}AuthenticationError",
        "too_long": f"{prefix}{too_long}",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_curl_works(url: str, stream: bool) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    command = [
        *("curl", "-sS", "-N", f"{url}/chat/completions", "-H", "Content-Type: application/json"),
        *("-H", f"Authorization: Bearer {KEY}", "-d", json.dumps(body)),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    if stream:
        assert answer.count("data: {") == len(PARIS) + 1
        assert answer.endswith("data: [DONE]\n\n")
    else:
        assert json.loads(answer)["choices"][0]["message"]["content"] == ANSWER
