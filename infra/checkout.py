"""Files of this checkout that travel: into code archives and build contexts."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def is_left_behind(path: Path) -> bool:
    """Whether Python, an editor or the system made the file, and not an author."""
    return "__pycache__" in path.parts or any(part.startswith(".") for part in path.parts)
