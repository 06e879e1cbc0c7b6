"""`offline.local.supervisor` over real, small programs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from offline.local.errors import LocalRunError
from offline.local.processes import Command, identity_of
from offline.local.report import Progress
from offline.local.state import RunState, StateDirectory, new_run_id
from offline.local.supervisor import Recovery, StopRequested, Supervisor

ROOT = Path(__file__).parent.parent.parent
SLEEPER = Command("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ))
FAILING = Command("failing", [sys.executable, "-c", "raise SystemExit('no model')"], dict(os.environ))


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path)


@pytest.fixture
def supervisor(directory: StateDirectory) -> Iterator[Supervisor]:
    """One whose signal handlers do not outlive the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    state = RunState(new_run_id(), identity_of(os.getpid()), time.time())
    yield Supervisor(ROOT, directory, state, Progress())
    for number, handler in handlers.items():
        signal.signal(number, handler)


def after(seconds: float, action: Callable[[], object]) -> None:
    threading.Timer(seconds, action).start()


def watch(
    supervisor: Supervisor,
    command: Command,
    *,
    restart: bool = False,
    recovered: Callable[[], bool] = lambda: False,
    meanwhile: Callable[[int], object] | None = None,
) -> None:
    """Launch and watch; half a second later `meanwhile` gets the pid."""
    with supervisor:
        process = supervisor.launch(command)
        if meanwhile:
            after(0.5, lambda: meanwhile(process.pid))
        recovery = Recovery(lambda: command, recovered)
        supervisor.watch({command.name: recovery} if restart else {})


def wait_in_vain(supervisor: Supervisor, command: Command, timeout_s: float) -> None:
    with supervisor:
        supervisor.launch(command)
        supervisor.wait(lambda: False, what="the answer", timeout_s=timeout_s)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(
    supervisor: Supervisor, directory: StateDirectory, number: signal.Signals
) -> None:
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(os.getpid(), number)

    with pytest.raises(StopRequested, match=number.name):
        watch(supervisor, SLEEPER, meanwhile=stop)
    [pid] = pids
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert directory.load() is None


def test_a_service_that_cannot_be_spared_ends_the_run_with_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(LocalRunError, match=r"(?s)failing ended unexpectedly \(exit code 1\).*no model"):
        watch(supervisor, FAILING)


def test_waiting_ends_when_a_service_does(supervisor: Supervisor) -> None:
    with pytest.raises(LocalRunError, match="failing ended unexpectedly"):
        wait_in_vain(supervisor, FAILING, timeout_s=60)


def test_waiting_has_an_end(supervisor: Supervisor) -> None:
    with pytest.raises(LocalRunError, match="the answer did not come within 0 s"):
        wait_in_vain(supervisor, SLEEPER, timeout_s=0.3)


def test_a_killed_service_is_started_again_and_its_return_is_reported(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    def recovered() -> bool:
        after(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return True

    with pytest.raises(StopRequested):
        watch(
            supervisor,
            SLEEPER,
            restart=True,
            recovered=recovered,
            meanwhile=lambda pid: os.kill(pid, signal.SIGKILL),
        )
    printed = capsys.readouterr().out
    assert "sleeper: killed by SIGKILL; starting another one" in printed
    assert "sleeper: works again after" in printed


def test_a_service_that_dies_again_and_again_ends_the_run(supervisor: Supervisor) -> None:
    with pytest.raises(LocalRunError, match=r"(?s)failing ended 6 times within 300 s.*no model"):
        watch(supervisor, FAILING, restart=True)


def test_a_service_that_lives_on_without_its_vital_process_is_started_again(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline.local.supervisor.LIVENESS_PERIOD_S", 0.2)
    name = f"vital-{os.getpid()}"
    (tmp_path / name).symlink_to(shutil.which("sleep") or "")
    # A shell that starts the process, and stays when it has ended.
    argv = ["bash", "-c", f"{tmp_path / name} 600; sleep 600"]
    command = Command("node", argv, dict(os.environ), vital=(name,))

    def vital() -> list[psutil.Process]:
        return [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]

    before: list[psutil.Process] = []

    def lose_it(_: int) -> None:
        time.sleep(2)  # the supervisor has seen it
        before.extend(vital())
        before[0].kill()

    def started_again() -> bool:
        if vital() not in ([], before):
            raise StopRequested("started again")
        return False

    with pytest.raises(StopRequested, match="started again"):
        watch(supervisor, command, restart=True, recovered=started_again, meanwhile=lose_it)
    assert len(before) == 1
