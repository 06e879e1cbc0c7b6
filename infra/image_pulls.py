"""Images that pods wait for, and whether that can be in vain. Plain data: no calls, no clock.

The release check carries this module into its pod, so it uses the standard library of Python 3.10 alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# An image that is not there may be pushed just now: it is missed for so long before that is certain.
SURE_AFTER_S = 60.0
# For a pull that fails for a reason that may pass, such as a registry that does not answer. A large image
# takes minutes, and while the kubelet pulls again it still shows the failure before.
PATIENCE_S = 600.0
WAY_OUT = "name an image that exists, or let the nodes pull this one"

REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
# Words of registries, resolvers, containerd and the kubelet for an image that is not there, or not for us. A
# registry that does not answer, or has too much to do, says none of them.
_NO_SUCH_IMAGE = re.compile(
    "not found|does not exist|manifest unknown|denied|unauthorized|authorization failed|forbidden"
    "|no such host|InvalidImageName|ErrImageNeverPull",
    re.IGNORECASE,
)


def container_statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The status of every container of a pod, those that prepare it first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def waiting_for(status: Mapping[str, Any]) -> tuple[str, str]:
    """Reason and message of a container that waits, empty where it does not."""
    waiting = (status.get("state") or {}).get("waiting") or {}
    return waiting.get("reason") or "", waiting.get("message") or ""


def is_missing(reason: str, message: str) -> bool:
    """Whether a failed pull says that there is no such image, rather than that it could not be had now."""
    return _NO_SUCH_IMAGE.search(f"{reason} {message}") is not None
