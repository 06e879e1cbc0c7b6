"""A cluster that can be hurt, for as many tests as leave it well."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from offline.errors import OfflineError
from offline.ha.store import find_server
from tests.ha.fleet import Fleet


@pytest.fixture(scope="session", autouse=True)
def redis_server() -> str:
    """The state of a head needs a Redis; on CI there has to be one."""
    try:
        return find_server()
    except OfflineError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def fleet(redis_server: str, model_dir: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("ha"))
    yield made
    made.close()
