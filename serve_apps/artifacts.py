"""Compiled modules, kept for the next replica in a directory and, on AWS, in the compile cache's bucket."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from serve_apps.model_files import model_cache

logger = logging.getLogger(__name__)

# Set by the stack on workers with NeuronCores; torch_neuronx.trace itself keeps nothing there.
COMPILE_CACHE_ENV = "NEURON_COMPILE_CACHE_URL"
_PREFIX = "traced"


class ArtifactStore:
    """Files by key. What has a key never changes, so a file that is there is used as it is."""

    def __init__(self, directory: Path, bucket_url: str | None = None) -> None:
        """`bucket_url` is `s3://BUCKET/PREFIX`, None for the directory alone."""
        self._directory = directory
        self._bucket, _, self._prefix = (bucket_url or "").removeprefix("s3://").rstrip("/").partition("/")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> ArtifactStore:
        """Beside the downloaded models, and in the bucket that the environment names, if it names one."""
        url = environ.get(COMPILE_CACHE_ENV, "")
        return cls(
            model_cache() / _PREFIX, f"{url.rstrip('/')}/{_PREFIX}" if url.startswith("s3://") else None
        )

    def get_or_make(self, key: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """The file of `key`, and whether it was there; `make` writes it if it is nowhere."""
        path = self._directory / f"{key}.pt"
        if path.is_file():
            return path, True
        self._directory.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_file():  # another process made it while this one waited
                return path, True
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            found = self._download(path.name, partial)
            if not found:
                make(partial)
            partial.replace(path)
            if not found:
                self._upload(path)
            return path, found

    def _download(self, name: str, target: Path) -> bool:
        if not self._bucket:
            return False
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            _s3().download_file(self._bucket, self._object(name), str(target))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchKey"):
                logger.warning("compiled modules cannot be read from the bucket: %s", error)
            return False
        except BotoCoreError as error:
            logger.warning("compiled modules cannot be read from the bucket: %s", error)
            return False
        return True

    def _upload(self, path: Path) -> None:
        if not self._bucket:
            return
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            _s3().upload_file(str(path), self._bucket, self._object(path.name))
        except (BotoCoreError, ClientError, S3UploadFailedError) as error:
            # It only costs the next replica a compilation.
            logger.warning("a compiled module cannot be kept in the bucket: %s", error)

    def _object(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def _s3() -> Any:
    import boto3

    return boto3.client("s3")
