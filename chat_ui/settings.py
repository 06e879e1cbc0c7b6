"""What the chat page has to know: which APIs, with which key, and where to listen."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True)
class Settings:
    """`base_urls` are those of OpenAI-compatible APIs, by a name of your own choice."""

    base_urls: dict[str, str]
    host: str
    port: int
    api_key: str | None = field(default=None, repr=False)


def read_settings(
    arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Flags first, then the environment; ends the program for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m chat_ui",
        description="A chat page over OpenAI-compatible APIs. The API key comes from OPENAI_API_KEY.",
    )
    parser.add_argument(
        "--base-urls",
        default=environ.get("CHAT_UI_BASE_URLS", _DEFAULT_BASE_URL),
        metavar="URL[,URL...]",
        help="APIs, each as URL or NAME=URL, ending in /v1 (CHAT_UI_BASE_URLS); default %(default)s",
    )
    parser.add_argument(
        "--host",
        default=environ.get("CHAT_UI_HOST", "127.0.0.1"),
        help="address to listen on (CHAT_UI_HOST); default %(default)s",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=environ.get("CHAT_UI_PORT", "7860"),
        help="port to listen on (CHAT_UI_PORT); default %(default)s",
    )
    chosen = parser.parse_args(arguments)
    try:
        base_urls = parse_base_urls(chosen.base_urls)
    except ValueError as error:
        parser.error(str(error))
    return Settings(base_urls, chosen.host, chosen.port, environ.get("OPENAI_API_KEY") or None)


def parse_base_urls(text: str) -> dict[str, str]:
    """Addresses by name from `NAME=URL,URL,...`; one without a name is its own. Raises `ValueError`."""
    result: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, has_name, url = entry.partition("=http")
        url = f"http{url}" if has_name else entry
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"base URL {entry!r}: write it as URL or NAME=URL, with http:// or https://")
        result[name if has_name else url] = url.rstrip("/")
    if not result:
        raise ValueError("no base URL; name at least one API, for example http://127.0.0.1:8000/v1")
    return result
