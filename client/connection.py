"""Which API, with which key, and which of its models."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
from openai import OpenAI

from client.errors import ClientError, explained

_DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Connection:
    """An OpenAI-compatible API. `base_url` ends in /v1; `timeout_s` is that of a whole request."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0

    @property
    def root_url(self) -> str:
        """What the routes beside /v1 stand under."""
        return self.base_url.removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """For requests without the `openai` package."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def client(self) -> OpenAI:
        """A client that does not retry: an error is shown at once."""
        timeout = openai.Timeout(self.timeout_s, connect=_CONNECT_TIMEOUT_S)
        # The package insists on a key; an API without keys ignores it.
        return OpenAI(base_url=self.base_url, api_key=self.api_key or "none", timeout=timeout, max_retries=0)

    def http(self) -> httpx.Client:
        """A client for the routes beside /v1."""
        timeout = httpx.Timeout(self.timeout_s, connect=_CONNECT_TIMEOUT_S)
        return httpx.Client(base_url=self.root_url, headers=self.headers, timeout=timeout)

    def model(self, wanted: str | None) -> str:
        """The model asked for, or the first that is served. Raises `ClientError`."""
        try:
            with self.client() as client:
                served = [model.id for model in client.models.list().data]
        except openai.OpenAIError as error:
            raise explained(error, self.base_url) from None
        if wanted is None and served:
            return served[0]
        if wanted not in served:
            there = ", ".join(served) or "no model at all"
            raise ClientError(f"--model {wanted!r} is not served at {self.base_url}; it has {there}")
        return wanted


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add `--base-url`, `--api-key-file`, `--model` and `--timeout`."""
    parser.add_argument(
        "--base-url",
        default=os.environ.get("OPENAI_BASE_URL", _DEFAULT_BASE_URL),
        metavar="URL",
        help="address of the API, ending in /v1; OPENAI_BASE_URL may say it, too (default: %(default)s)",
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="file whose first line is the API key (default: the variable OPENAI_API_KEY has it)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="model to talk to (default: the first that is served)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds that a request may take (default: %(default)g)",
    )


def connection_of(options: argparse.Namespace) -> Connection:
    """The API that the command line names. Raises `ClientError`."""
    if not options.base_url.startswith(("http://", "https://")):
        raise ClientError(f"--base-url {options.base_url!r}: it must begin with http:// or https://")
    return Connection(options.base_url.rstrip("/"), _api_key(options.api_key_file), options.timeout)


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("OPENAI_API_KEY") or None
    try:
        lines = file.read_text().split()
    except OSError as error:
        raise ClientError(f"--api-key-file {file}: {error.strerror}") from None
    if not lines:
        raise ClientError(f"--api-key-file {file}: holds no key")
    return lines[0]
