"""How the tests on a cluster run and kill commands, with a shell in the place of the engine."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGINT, SIGKILL

import psutil
import pytest

from tests.cluster.stack import Running
from tests.waiting import wait_until

# Like the engine it ends by itself when it is asked to, but not at once.
ENGINE = "trap 'echo interrupted; exit 1' INT; sleep 300 & echo $! > plugin; while :; do wait; done"


def begin(script: str, directory: Path) -> Running:
    return Running(["bash", "-c", script], directory, dict(os.environ), directory / "log")


def test_a_failure_shows_all_that_the_command_said(tmp_path: Path) -> None:
    done = begin("echo first; echo last >&2; exit 3", tmp_path).wait()
    assert (done.code, done.output) == (3, "first\nlast\n")
    with pytest.raises(AssertionError, match=r"ended with 3 after \d+ s\nfirst\nlast"):
        done.expect()


def test_an_interrupt_leaves_the_engine_time_for_its_last_words(tmp_path: Path) -> None:
    done = begin(ENGINE, tmp_path).interrupt_when((tmp_path / "plugin").exists, SIGINT)
    assert (done.code, done.output) == (1, "interrupted\n")
    psutil.Process(int((tmp_path / "plugin").read_text())).kill()


def test_a_kill_takes_the_plugins_along(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    done = begin(ENGINE, tmp_path).interrupt_when(lambda: plugin.exists() and plugin.read_text(), SIGKILL)
    assert (done.code, done.output) == (-SIGKILL, "")
    wait_until(lambda: not psutil.pid_exists(int(plugin.read_text())), "the end of the plugin")


def test_a_command_that_was_over_before_its_moment_is_told_by_its_code(tmp_path: Path) -> None:
    assert begin("exit 0", tmp_path).interrupt_when(lambda: False, SIGKILL).code == 0


def test_a_command_that_failed_before_its_moment_was_not_interrupted(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="by itself"):
        begin("echo by itself; exit 1", tmp_path).interrupt_when(lambda: False, SIGKILL)
