"""The commands of the documentation that need nothing but this machine do what they say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# `run` serves until it is stopped: tests of the local run have it.
COMMANDS = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(r"^\.venv/bin/python (-m offline .+)$", page.read_text(), re.MULTILINE)
        if not line.startswith("-m offline run")
    }
)


def test_the_pages_show_the_offline_tools() -> None:
    assert {line.split()[2] for line in COMMANDS} == {"graph", "manifests", "diff"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_works(command: str) -> None:
    result = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    shown = "the work tree" if "offline diff" in command else "smollm2-135m-instruct"
    assert shown in result.stdout
