"""HTTP calls that either give what was asked for or raise `CallError`."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

CALL_TIMEOUT_S = 10.0
_LONGEST_WORDS = 500


class CallError(Exception):
    """There was no usable answer; asking again may bring one."""


def get_json(
    url: str,
    *,
    method: str | None = None,
    token: str = "",
    body: dict[str, Any] | None = None,
    timeout_s: float = CALL_TIMEOUT_S,
    context: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """GET, or POST with a body. Raises `CallError` for anything but a JSON object with status 2xx."""
    with answer(url, method=method, token=token, body=body, timeout_s=timeout_s, context=context) as response:
        value = json.loads(response.read())
        if not isinstance(value, dict):
            raise CallError("not a JSON object")
        return value


@contextmanager
def answer(
    url: str,
    *,
    method: str | None = None,
    token: str = "",
    body: dict[str, Any] | None = None,
    timeout_s: float = CALL_TIMEOUT_S,
    context: ssl.SSLContext | None = None,
) -> Generator[http.client.HTTPResponse]:
    """A response with status 2xx, to be read inside; whatever goes wrong there is a `CallError`, too."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - from our own parts
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as response:  # noqa: S310
            yield response
    except urllib.error.HTTPError as error:
        raise CallError(f"HTTP {error.code}: {_words(error)}") from None
    except ValueError as error:
        raise CallError(f"not JSON: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        # A server that dies in mid-answer: IncompleteRead and BadStatusLine are no OSErrors.
        raise CallError(str(error) or type(error).__name__) from None


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(_LONGEST_WORDS).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return error.reason
