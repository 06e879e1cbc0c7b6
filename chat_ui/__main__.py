"""`python -m chat_ui`: serve the chat page until stopped."""

from __future__ import annotations

import uvicorn

from chat_ui.app import create_app
from chat_ui.settings import read_settings

# Open streams are given up this long after a signal.
_SHUTDOWN_S = 2


def main() -> None:
    """Read the settings and serve."""
    settings = read_settings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


if __name__ == "__main__":
    main()
