"""A running local stack and a browser, started once for all tests here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from offline.local.ports import free_ports
from offline.local.processes import is_alive, session_members
from offline.local.state import RunState, StateDirectory

ROOT = Path(__file__).parent.parent.parent
# The time of a start on two busy cores, several times over.
START_TIMEOUT_S = 600
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Stack:
    """A local run with ports and a state directory of its own."""

    state_dir: Path
    api_port: int
    ui_port: int
    dashboard_port: int
    project_dir: Path = ROOT

    @classmethod
    def on_free_ports(cls, state_dir: Path, project_dir: Path = ROOT) -> Stack:
        return cls(state_dir, *free_ports(3, "127.0.0.1"), project_dir)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}/v1"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def run_arguments(self) -> list[str]:
        ports = {"api": self.api_port, "ui": self.ui_port, "dashboard": self.dashboard_port}
        return ["run", *(f"--{name}-port={port}" for name, port in ports.items())]

    @property
    def log(self) -> str:
        """What the run in the background has printed."""
        return (self.state_dir / "logs" / "run.log").read_text()

    @property
    def state(self) -> RunState:
        state = StateDirectory(self.state_dir).load()
        assert state is not None, "nothing runs"
        return state

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "offline", *arguments, f"--state-dir={self.state_dir}"]

    def offline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.project_dir,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )

    def assert_nothing_left_of(self, state: RunState) -> None:
        assert not is_alive(state.runner)
        assert session_members(state.programs.values()) == []
        traces = [str(self.state_dir), *([state.ray_directory] if state.ray_directory else [])]
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            mine = process.pid == os.getpid()
            assert mine or not any(trace in command for trace in traces), f"left behind: {command}"
        assert StateDirectory(self.state_dir).load() is None
        assert state.ray_directory is None or not Path(state.ray_directory).exists()


@pytest.fixture(scope="session")
def stack(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack `local`, answering. The tests share it, so each leaves it answering."""
    running = Stack.on_free_ports(tmp_path_factory.mktemp("local"))
    started = running.offline(*running.run_arguments, "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    state = running.state
    yield running
    stopped = running.offline("stop")
    assert stopped.returncode == 0, stopped.stderr
    running.assert_nothing_left_of(state)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()
