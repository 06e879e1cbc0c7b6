"""The secrets of a stack: read from its file, refused where they are weak, broken or in plain text."""

from __future__ import annotations

import re
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


SECRET_KEYS = ("apiKeys", "huggingFaceToken", "gcsStoreAuthToken")
# Short keys can be guessed; `openssl rand -hex 32` gives 64 characters.
_API_KEY_MIN_CHARS = 20
# A key may stand as its hash, which opens nothing.
HASHED_KEY_PREFIX = "sha256:"
_HASHED_KEY = re.compile(HASHED_KEY_PREFIX + r"[0-9a-fA-F]{64}")
# What ElastiCache accepts (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth.html).
_GCS_STORE_AUTH_TOKEN = re.compile(r"[A-Za-z0-9!&#$^<>-]{16,128}")


def read_secrets(raw: dict[str, str], project: str) -> tuple[Secrets, list[str]]:
    """The secrets among a stack's values, and what is wrong with them, a sentence each."""
    findings = [
        f"{project}:{key}: stands in plain text in the stack file; remove it and set it with "
        f"`pulumi config set --secret {project}:{key}`"
        for key in SECRET_KEYS
        if key in raw and not pulumi.runtime.is_config_secret(f"{project}:{key}")
    ]
    api_keys = token = store_token = client_key = None
    if "apiKeys" in raw:
        keys = [key for part in raw["apiKeys"].replace(",", "\n").splitlines() if (key := part.strip())]
        findings += _weak_api_keys(keys, project)
        api_keys = pulumi.Output.secret("".join(f"{key}\n" for key in keys))
        if plain := [key for key in keys if not key.startswith(HASHED_KEY_PREFIX)]:
            client_key = pulumi.Output.secret(plain[0])
    if "huggingFaceToken" in raw:
        token = pulumi.Output.secret(raw["huggingFaceToken"].strip())
    if "gcsStoreAuthToken" in raw:
        findings += _bad_store_token(raw["gcsStoreAuthToken"], project)
        store_token = pulumi.Output.secret(raw["gcsStoreAuthToken"])
    return Secrets(api_keys, token, store_token, client_key), findings


def _weak_api_keys(keys: list[str], project: str) -> list[str]:
    if not keys:
        return [f"{project}:apiKeys: holds no key; set one or more, separated by line breaks or commas"]
    short = sum(len(key) < _API_KEY_MIN_CHARS for key in keys)
    broken = sum(key.startswith(HASHED_KEY_PREFIX) and not _HASHED_KEY.fullmatch(key) for key in keys)
    findings: list[str] = []
    if short:
        findings.append(
            f"{project}:apiKeys: {short} of {len(keys)} keys have less than {_API_KEY_MIN_CHARS} characters; "
            "make one with `openssl rand -hex 32`"
        )
    if broken:
        findings.append(
            f"{project}:apiKeys: {broken} of {len(keys)} keys begin with {HASHED_KEY_PREFIX} and do not go "
            "on with 64 hexadecimal digits; make one with `printf %s KEY | sha256sum`"
        )
    return findings


def _bad_store_token(token: str, project: str) -> list[str]:
    if _GCS_STORE_AUTH_TOKEN.fullmatch(token):
        return []
    return [
        f"{project}:gcsStoreAuthToken: its {len(token)} characters are not what ElastiCache accepts, 16 to "
        "128 letters, digits and !&#$^<>-; make one with `openssl rand -hex 32`"
    ]
