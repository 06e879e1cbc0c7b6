"""A compiler that takes no time and keeps what it made where the real one does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_VERSION = "neuronxcc-2.20.9961.0"
_GRAPH = b"an emulated graph"


def compile_graph(description: str) -> bytes:
    """The graph of `description`, from the cache at `NEURON_COMPILE_CACHE_URL` or new and then kept there."""
    url = os.environ.get("NEURON_COMPILE_CACHE_URL", "/var/tmp/neuron-compile-cache")
    flags = os.environ.get("NEURON_CC_FLAGS", "")
    digest = hashlib.sha256(f"{flags}\n{description}".encode()).hexdigest()[:20]
    name = f"{_VERSION}/MODULE_{digest}/model.neff"
    if url.startswith("s3://"):
        _on_s3(url, name)
        return _GRAPH
    path = Path(url, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_GRAPH)
    return _GRAPH


def _on_s3(url: str, name: str) -> None:
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=_GRAPH)
