"""What the compile cache did for a start: how many graphs it had, and how many it lacked.

The compiler keeps each graph as `.../MODULE_<hash>/model.neff` under `NEURON_COMPILE_CACHE_URL`, a directory
or an `s3://` URL
(https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/neuron-features/neuron-caching.html,
looked at 2026-11). It says nothing to the process that asked for the graph, so the entries are counted
before and after. Replicas that compile at the same time see each other's entries.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

CACHE_URL_ENV = "NEURON_COMPILE_CACHE_URL"
_DEFAULT_DIRECTORY = "/var/tmp/neuron-compile-cache"  # noqa: S108 - the compiler's own default
_GRAPH = "model.neff"


class CompileCache:
    """The cache that the compiler of this process uses."""

    def __init__(self) -> None:
        self.url = os.environ.get(CACHE_URL_ENV) or _DEFAULT_DIRECTORY

    def graphs(self) -> set[str] | None:
        """The graphs in the cache; None if it cannot be looked at, which must not stop a start."""
        try:
            return set(self._on_s3() if self.url.startswith("s3://") else self._on_disk())
        except Exception as error:
            logger.warning("the compile cache %s cannot be listed: %s", self.url, error)
            return None

    def _on_disk(self) -> Iterator[str]:
        for path in Path(self.url).glob(f"**/{_GRAPH}"):
            yield str(path)

    def _on_s3(self) -> Iterator[str]:
        import boto3

        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                if entry["Key"].endswith(f"/{_GRAPH}"):
                    yield entry["Key"]


def verdict(before: set[str] | None, after: set[str] | None) -> str:
    """Hit or miss in words, from the graphs before and after a compilation."""
    if before is None or after is None:
        return "unknown"
    new = len(after - before)
    return f"miss, {new} graphs compiled" if new else "hit"
