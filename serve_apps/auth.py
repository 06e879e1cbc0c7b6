"""API keys: which are valid, and whether a request carries one.

Keys come from a file, one a line, as they are or as `sha256:` and 64 hexadecimal digits; blank lines and
lines that begin with `#` do not count. The file is read again when it changes, so that a key can be added or
withdrawn without a restart. Kubernetes replaces a mounted secret by moving a symbolic link, so what is
watched is the file the path leads to.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

from serve_apps.environment import API_KEYS_FILE_ENV
from serve_apps.errors import ApiError, invalid_api_key
from serve_apps.model_args import Auth

logger = logging.getLogger(__name__)

_HASH_PREFIX = b"sha256:"
_HASHED = re.compile(rb"sha256:([0-9a-fA-F]{64})")


class ApiKeysError(ValueError):
    """There is no usable file of API keys; the message says where it was looked for."""


class ApiKeys:
    """The keys of one file, kept as digests."""

    def __init__(self, path: Path) -> None:
        """Read the keys. Raises `ApiKeysError` if there are none: without keys nobody could get in."""
        self._path = path
        self._version = _version(path)
        self._digests = _read_digests(path)
        if not self._digests:
            raise ApiKeysError(
                f"{path} (named by {API_KEYS_FILE_ENV}) cannot be read or has no API key; write one key a "
                "line into it, or let the service's stack say `auth: none`"
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> ApiKeys:
        """The keys of the file that the environment names. Raises `ApiKeysError`."""
        path = environ.get(API_KEYS_FILE_ENV)
        if not path:
            raise ApiKeysError(
                f"{API_KEYS_FILE_ENV} is not set; let it name a file with one API key a line, or let the "
                "service's stack say `auth: none`"
            )
        return cls(Path(path))

    @classmethod
    def required_by(cls, auth: Auth) -> ApiKeys | None:
        """The keys of the environment, or None where `auth` asks for none. Raises `ApiKeysError`."""
        return cls.from_environment() if auth == "api-keys" else None

    def check(self, authorization: str | None) -> bytes:
        """The digest of the key in an `Authorization` header's value. Raises `ApiError` (401)."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _missing_key()
        # Header values are latin-1 on the wire.
        digest = _digest(key.strip().encode("latin-1", "replace"))
        if not self._is_known(digest):
            # LiteLLM knows an authentication error by OpenAI's first words.
            raise invalid_api_key("Incorrect API key provided; ask whoever runs the service for one.")
        return digest

    def _is_known(self, digest: bytes) -> bool:
        self._reread_if_changed()
        # Comparing digests takes the same time whatever the key, and every one is compared whichever matches.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _reread_if_changed(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        self._digests = _read_digests(self._path)
        if self._digests:
            logger.info("read %d API keys from %s", len(self._digests), self._path)
        else:
            logger.error("%s cannot be read or has no API key: every request gets 401", self._path)


def _missing_key() -> ApiError:
    return invalid_api_key("No API key; send the header `Authorization: Bearer <key>`.")


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read_digests(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    keys = [key for line in lines if (key := line.strip()) and not key.startswith(b"#")]
    return [digest for key in keys if (digest := _stored_digest(key)) is not None]


def _stored_digest(key: bytes) -> bytes | None:
    """The digest that a line stands for; None for a hash that was cut or mistyped, which fits no key."""
    if not key.startswith(_HASH_PREFIX):
        return _digest(key)
    hashed = _HASHED.fullmatch(key)
    if hashed is None:
        logger.error("a line of the API keys begins with sha256: and has no 64 hexadecimal digits; skipped")
        return None
    return bytes.fromhex(hashed[1].decode())


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
