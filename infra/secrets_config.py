"""The secrets of a stack: read from its file, refused where they are weak, broken or in plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Secrets:
    """Values that exist only as Pulumi secrets.

    `api_keys` is a text of one key a line, some of them perhaps only as a hash; `client_key` is the first
    that is not. Each is None where the stack sets none.
    """

    api_keys: pulumi.Output[str] | None = None
    hugging_face_token: pulumi.Output[str] | None = None
    gcs_store_auth_token: pulumi.Output[str] | None = None
    client_key: pulumi.Output[str] | None = None


# Short keys can be guessed; `openssl rand -hex 32` gives 64 characters.
_API_KEY_MIN_CHARS = 20
# A key may stand as its hash, which opens nothing.
HASHED_KEY_PREFIX = "sha256:"
_HASHED_KEY = re.compile(HASHED_KEY_PREFIX + r"[0-9a-fA-F]{64}")
_HUB_TOKENS = "https://huggingface.co/settings/tokens"
# What ElastiCache accepts (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth.html).
_GCS_STORE_AUTH_TOKEN = re.compile(r"[A-Za-z0-9!&#$^<>-]{16,128}")


def setting_of(key: str) -> str:
    """How a secret is set, as a clause."""
    return f"set it with `pulumi config set --secret {pulumi.get_project()}:{key}`"


def read_secrets(raw: dict[str, str]) -> tuple[Secrets, list[str]]:
    """The secrets among a stack's values, and what is wrong with them, a sentence each."""
    findings = [
        finding
        for key, weaknesses in _WEAKNESSES.items()
        if key in raw
        for finding in _misplaced(key, raw[key]) or weaknesses(raw[key])
    ]
    api_keys = token = store_token = client_key = None
    if "apiKeys" in raw:
        keys = _api_keys(raw["apiKeys"])
        api_keys = pulumi.Output.secret("".join(f"{key}\n" for key in keys))
        if plain := [key for key in keys if not key.startswith(HASHED_KEY_PREFIX)]:
            client_key = pulumi.Output.secret(plain[0])
    if "huggingFaceToken" in raw:
        token = pulumi.Output.secret(raw["huggingFaceToken"].strip())
    if "gcsStoreAuthToken" in raw:
        store_token = pulumi.Output.secret(raw["gcsStoreAuthToken"])
    return Secrets(api_keys, token, store_token, client_key), findings


def _misplaced(key: str, text: str) -> list[str]:
    """What is wrong with the way in which a secret stands in the stack file."""
    if not pulumi.runtime.is_config_secret(f"{pulumi.get_project()}:{key}"):
        return [f"{key}: stands in plain text in the stack file; remove it and {setting_of(key)}"]
    # The engine hands lists and mappings over as JSON.
    if text.startswith(("[", "{")):
        return [f"{key}: is a list or a mapping and must be one text; {setting_of(key)}"]
    return []


def _api_keys(text: str) -> list[str]:
    return [key for part in text.replace(",", "\n").splitlines() if (key := part.strip())]


def _weak_api_keys(text: str) -> list[str]:
    keys = _api_keys(text)
    if not keys:
        return ["apiKeys: holds no key; set one or more, separated by line breaks or commas"]
    short = sum(len(key) < _API_KEY_MIN_CHARS for key in keys)
    broken = sum(key.startswith(HASHED_KEY_PREFIX) and not _HASHED_KEY.fullmatch(key) for key in keys)
    findings: list[str] = []
    if short:
        findings.append(
            f"apiKeys: fewer than {_API_KEY_MIN_CHARS} characters in {short} of {len(keys)} keys; make each "
            "with `openssl rand -hex 32`"
        )
    if broken:
        findings.append(
            f"apiKeys: no 64 hexadecimal digits after {HASHED_KEY_PREFIX} in {broken} of {len(keys)} keys; "
            "make them with `printf %s KEY | sha256sum`"
        )
    return findings


def _bad_hub_token(token: str) -> list[str]:
    if token.strip():
        return []
    return [f"huggingFaceToken: is empty; make one at {_HUB_TOKENS} and {setting_of('huggingFaceToken')}"]


def _bad_store_token(token: str) -> list[str]:
    if _GCS_STORE_AUTH_TOKEN.fullmatch(token):
        return []
    return [
        f"gcsStoreAuthToken: its {len(token)} characters are not what ElastiCache accepts, 16 to "
        "128 letters, digits and !&#$^<>-; make one with `openssl rand -hex 32`"
    ]


_WEAKNESSES: dict[str, Callable[[str], list[str]]] = {
    "apiKeys": _weak_api_keys,
    "huggingFaceToken": _bad_hub_token,
    "gcsStoreAuthToken": _bad_store_token,
}
SECRET_KEYS = tuple(_WEAKNESSES)
