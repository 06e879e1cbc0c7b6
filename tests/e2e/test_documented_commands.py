"""The commands of the documentation that need nothing but this machine do what they say."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documented import ROOT, documented
from tests.e2e.conftest import Stack
from tests.e2e.test_client import trivial

# `run` serves until it is stopped: tests of the local run have it.
OFFLINE = [
    command
    for command in documented(".venv/bin/python -m offline")
    if " offline run" not in command and "FILE" not in command
]
CLIENT = ".venv/bin/python -m client"


def run(command: str, *more: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    _, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, *arguments, *more],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pages_show_the_offline_tools() -> None:
    assert {command.split()[3] for command in OFFLINE} == {"graph", "manifests", "diff", "serve-config"}


@pytest.mark.slow
@pytest.mark.parametrize("command", OFFLINE)
def test_a_documented_command_works(command: str) -> None:
    result = run(command)
    assert result.returncode == 0, result.stderr
    if " diff" in command:
        assert "the work tree" in result.stdout
    else:
        assert "RayService" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", documented(f"{CLIENT} load"))
def test_a_documented_load_test_works(command: str, tmp_path: Path) -> None:
    files = [f"--json={tmp_path}/load.json", f"--plots={tmp_path}"] if "--json" in command else []
    with trivial() as base_url:
        shorter = [f"--base-url={base_url}", "--warm-up=0", "--duration=2", "--rate=20"]
        result = run(command, *shorter, *files)
    assert result.returncode == 0, result.stderr
    assert "time to first token" in result.stdout
    written = {"load.json", "distributions.png", "over-time.png"} if files else set()
    assert {path.name for path in tmp_path.iterdir()} == written


@pytest.mark.slow
@pytest.mark.parametrize("command", [*documented(f"{CLIENT} chat"), *documented(f"{CLIENT} infer")])
def test_a_documented_conversation_works(command: str, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "api-keys.txt").write_text("any key will do where none is asked for\n")
    result = run(command, cwd=tmp_path, OPENAI_BASE_URL=stack.api_url)
    assert result.returncode == 0, result.stderr
    if " infer " in command:
        assert "Paris" in result.stdout
    else:
        assert "smollm2-135m-instruct at" in result.stderr
