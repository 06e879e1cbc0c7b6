"""What the Serve deployments of all apps have in common."""

# No `from __future__ import annotations`: see serve_apps/llm/app.py.

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

# A health check that fails three times replaces the replica. Loading a model takes minutes, so a broken
# engine should not wait for Serve's default of ten seconds between checks as well.
HEALTH_CHECK_PERIOD_S = 5
# An API replica only waits for engines; what bounds its load is what they admit.
API_MAX_ONGOING_REQUESTS = 1000


def log_with_ray() -> None:
    """Send this package's log where Ray Serve writes a replica's own, in the format its config says."""
    logging.getLogger("serve_apps").parent = logging.getLogger("ray.serve")


class ApiReplica:
    """A replica that answers HTTP. Its `user_config` has the `release`, which `/health` tells.

    A release changes in place, so that neither this replica nor an engine has to start again for it.
    Subclasses build `api` in `__init__`.
    """

    api: FastAPI
    _release: str | None = None

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Take over a new `user_config`."""
        self._release = config["release"]

    def release(self) -> str | None:
        """The release that answers."""
        return self._release

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The app of this replica. Ray Serve calls it after `__init__`."""
        return self.api
