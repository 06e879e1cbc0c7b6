"""Waiting for what other threads and processes do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# What a machine with two cores and other work takes at most: patience, no expectation.
PATIENCE_S = 120.0


def wait_until(
    condition: Callable[[], object],
    what: str = "what was waited for",
    timeout_s: float = PATIENCE_S,
    poll_s: float = 0.05,
) -> None:
    """Return when `condition` holds, asked every `poll_s`; fail if it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s:g} s"
        time.sleep(poll_s)


async def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """The same within an event loop, which goes on meanwhile."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
