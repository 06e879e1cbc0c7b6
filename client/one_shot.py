"""`infer` and `imagine`: one call, one answer."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path

import httpx
import openai

from client.connection import connection_of
from client.errors import ClientError, explained


def infer(options: argparse.Namespace) -> int:
    """Print the most likely answer to one sentence, from `GET /infer`. Raises `ClientError`."""
    connection = connection_of(options)
    try:
        with connection.http() as client:
            answer = client.get("/infer", params={"sentence": options.sentence})
    except httpx.TimeoutException:
        raise ClientError(f"{connection.root_url} did not answer in time; raise --timeout") from None
    except httpx.TransportError:
        raise ClientError(f"nothing answers at {connection.root_url}; is it running?") from None
    if not answer.is_success:
        raise ClientError(f"the API answered {answer.status_code}: {_said(answer)}")
    print(answer.text)
    return 0


def imagine(options: argparse.Namespace) -> int:
    """Save the picture of a prompt, from `POST /v1/images/generations`. Raises `ClientError`."""
    file: Path = options.output
    if file.exists() and not options.force:
        raise ClientError(f"{file} exists; name another file with --output, or say --force")
    if not file.parent.is_dir():
        raise ClientError(f"--output {file}: there is no directory {file.parent}")
    connection = connection_of(options)
    model = connection.model(options.model)
    try:
        with connection.client() as client:
            answer = client.images.generate(
                model=model,
                prompt=options.prompt,
                size=options.size or openai.omit,
                response_format="b64_json",
            )
    except openai.OpenAIError as error:
        raise explained(error, connection.base_url) from None
    picture = answer.data[0].b64_json if answer.data else None
    if not picture:
        raise ClientError(f"{model!r} at {connection.base_url} returned no picture")
    file.write_bytes(base64.b64decode(picture))
    print(file)
    return 0


def _said(answer: httpx.Response) -> str:
    """The API's own sentence."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:200]
