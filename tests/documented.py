"""The commands that the pages show, for tests that run them or check their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("**/README.md")),
]
_PROGRAMS = ("aws", "cp", "curl", "docker", "git", "kind", "kubectl", "make", "pulumi", ".venv/bin/python")
_COMMAND = re.compile(rf"({'|'.join(map(re.escape, _PROGRAMS))}) \S.*|(make|pulumi) [a-z-]+")


def documented(beginning: str) -> list[str]:
    """All commands that begin so: lines of code blocks, and code in the text."""
    return sorted({command for command in _all() if f"{command} ".startswith(f"{beginning} ")})


def _all() -> Iterator[str]:
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for candidate in [*lines, *re.findall(r"`([^`\n]+)`", prose)]:
            if _COMMAND.fullmatch(candidate):
                yield candidate
