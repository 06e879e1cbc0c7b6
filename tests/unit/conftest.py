"""What unit tests share."""

from __future__ import annotations

import asyncio

import pytest

_LOOP = asyncio.new_event_loop()


@pytest.fixture(autouse=True)
def event_loop_for_pulumi() -> None:
    """The thread's event loop, which Pulumi's SDK wants and an asynchronous test takes with it at its end."""
    asyncio.set_event_loop(_LOOP)
