"""Models that lie in an S3 bucket: the objects under one prefix, as files of one directory.

The directory is named after what the bucket holds, so other objects under the same prefix are another model,
and a directory that exists is complete. A download that breaks off is resumed at the file that was missing.
Credentials, region and `AWS_ENDPOINT_URL_S3` are boto3's affair.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from serve_apps.model_files import ModelError, checked_directory, is_wanted, make_durable, model_cache

logger = logging.getLogger(__name__)

PREFIX = "s3://"
_DIGEST_CHARS = 16
_GIB = 2**30


@dataclass(frozen=True)
class _Object:
    """One file of the model; `tag` changes with its content."""

    key: str
    name: str
    size: int
    tag: str


def from_bucket(model: str, *, weights: bool) -> Path:
    """The directory with the files of `s3://BUCKET/PREFIX`, without `weights` only the tokenizer's.

    Raises `ModelError`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = model.removeprefix(PREFIX).partition("/")
    prefix = prefix.rstrip("/")
    if not bucket or not prefix:
        raise ModelError(f"model {model!r}: name a bucket and a prefix, as in s3://my-bucket/models/llama")
    try:
        return _from_bucket(model, bucket, prefix, weights=weights)
    except ClientError as error:
        raise ModelError(f"model {model!r}: {_refusal(error.response.get('Error', {}))}") from error
    except BotoCoreError as error:
        raise ModelError(
            f"model {model!r}: S3 cannot be reached ({error}); check credentials, region and network"
        ) from error


def _from_bucket(model: str, bucket: str, prefix: str, *, weights: bool) -> Path:
    import boto3

    client: Any = boto3.client("s3")
    objects = _listed(client, bucket, f"{prefix}/", weights=weights)
    if not any(found.name == "config.json" for found in objects):
        raise ModelError(
            f"model {model!r}: there is no config.json under that prefix; upload the model's files there "
            "(config.json, *.safetensors, tokenizer.json)"
        )
    target = _target(prefix, objects, weights=weights)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.is_dir():  # another process may have finished it while this one waited
                _download(client, bucket, objects, target, model)
    return checked_directory(model, target, weights=weights)


def _listed(client: Any, bucket: str, prefix: str, *, weights: bool) -> list[_Object]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [
        _Object(entry["Key"], entry["Key"].removeprefix(prefix), entry["Size"], entry["ETag"])
        for page in pages
        for entry in page.get("Contents", [])
    ]
    return [entry for entry in found if is_wanted(entry.name, weights=weights)]


def _target(prefix: str, objects: Sequence[_Object], *, weights: bool) -> Path:
    content = hashlib.sha256()
    for entry in objects:
        content.update(f"{entry.key}\0{entry.size}\0{entry.tag}\n".encode())
    kind = "" if weights else "-tokenizer"
    return model_cache() / f"{prefix.rpartition('/')[2]}-{content.hexdigest()[:_DIGEST_CHARS]}{kind}"


def _download(client: Any, bucket: str, objects: Sequence[_Object], target: Path, model: str) -> None:
    """Fill a directory beside the target, then rename it. Call under the lock."""
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(exist_ok=True)
    missing = [entry for entry in objects if not (partial / entry.name).is_file()]
    _check_space(partial, missing, model)
    total, done, began = sum(entry.size for entry in objects), 0, time.monotonic()
    for entry in objects:
        if entry in missing:
            # boto3 writes under a temporary name, in parallel parts with retries, and renames at the end.
            client.download_file(bucket, entry.key, str(partial / entry.name))
        done += entry.size
        logger.info("%s: %.2f of %.2f GiB", entry.name, done / _GIB, total / _GIB)
    for stray in partial.glob("*.safetensors.*"):
        stray.unlink(missing_ok=True)  # boto3's temporary file of a download that was killed
    make_durable(partial)
    partial.rename(target)
    logger.info("model downloaded from S3 in %.1f s", time.monotonic() - began)


def _check_space(directory: Path, missing: Sequence[_Object], model: str) -> None:
    needed, free = sum(entry.size for entry in missing), shutil.disk_usage(directory).free
    if needed > free:
        raise ModelError(
            f"model {model!r}: needs {needed / _GIB:.1f} GiB in {directory.parent}, which has "
            f"{free / _GIB:.1f} GiB free; make room, or point NEURON_SERVE_MODEL_CACHE to a larger disk"
        )


def _refusal(error: Mapping[str, Any]) -> str:
    code = str(error.get("Code"))
    if code == "NoSuchBucket":
        return "there is no such bucket; check the spelling and the region"
    if code in ("AccessDenied", "403", "Forbidden"):
        return "access denied; on AWS name the bucket as `modelBucket`, so that pods may read it"
    if code in ("404", "NoSuchKey"):
        return "an object vanished during the download; upload it again and restart"
    return f"S3 refused: {code} {error.get('Message', '')}".rstrip()
