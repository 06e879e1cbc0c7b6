"""Names that the Kubernetes provider gives to objects without one."""

from __future__ import annotations

import hashlib


def auto_name(name: str, urn: str) -> str:
    """The resource's name and eight hexadecimal digits, derived from the URN (the provider's are random)."""
    return f"{name}-{hashlib.sha256(urn.encode()).hexdigest()[:8]}"
