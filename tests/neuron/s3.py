"""A real S3 API on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server(bucket: str) -> Iterator[Any]:
    """A client of a server with an empty `bucket`; the environment leads boto3 there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-west-2")
        environment.delenv("AWS_PROFILE", raising=False)
        try:
            client: Any = boto3.client("s3")
            location = {"LocationConstraint": "us-west-2"}
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=location)
            yield client
        finally:
            server.stop()
