"""Keeps the processes of a run: starts them, notices when one dies, and leaves none behind.

Whatever ends the run, nothing stays: Ctrl-C, SIGTERM, SIGHUP and errors end in `__exit__`; if this process is
killed outright, the guard (`guard.py`) cleans up.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from offline.local.errors import LocalRunError
from offline.local.processes import LIVENESS_PERIOD_S, Command, ManagedProcess
from offline.local.report import Progress
from offline.local.state import RunState, StateDirectory

_POLL_S = 0.2
_TICK_S = 0.5
# How often one process may die within the window before the run gives up.
_MAX_RESTARTS = 5
_RESTART_WINDOW_S = 300
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A signal asked the run to end. Not an `Exception`: no retry loop may swallow it."""


@dataclass(frozen=True)
class Recovery:
    """How to start a service again, and how to see that what it is for works again.

    One that may end `often` is started again for ever, as Kubernetes does.
    """

    command: Callable[[], Command]
    recovered: Callable[[], bool]
    often: bool = False


class Supervisor:
    """A context: inside it processes can be launched, after it they are gone."""

    def __init__(
        self, project_dir: Path, directory: StateDirectory, state: RunState, progress: Progress
    ) -> None:
        self._project_dir = project_dir
        self._directory = directory
        self._state = state
        self._progress = progress
        self._services: dict[str, ManagedProcess] = {}
        self._restarts: dict[str, list[float]] = defaultdict(list)
        self._stop_signal: str | None = None
        self._starting = False

    def __enter__(self) -> Supervisor:
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        self.save()
        self._start_guard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt this
        self._state.phase = "stopping"
        self.save()
        self._directory.clean_up(self._state)
        self._guard.communicate()  # closes its input; it finds nothing left to do

    def save(self) -> None:
        """Write the state for `status`, `stop` and the guard."""
        self._directory.save(self._state)

    def launch(self, command: Command) -> ManagedProcess:
        """Start a service: a program that has to live as long as the run."""
        process = self._services[command.name] = self.run_program(command)
        return process

    def run_program(self, command: Command) -> ManagedProcess:
        """Start a program that may end before the run does."""
        self._starting = True  # a signal waits until the program is on record
        process = ManagedProcess(command, logs=self._directory.logs, cwd=self._project_dir)
        self._state.programs[command.name] = process.identity
        self.save()
        self._starting = False
        if self._stop_signal:
            raise StopRequested(self._stop_signal)
        return process

    def wait(self, condition: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Poll until true. Raises `LocalRunError` after the time, and as soon as a service ends."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for process in self._services.values():
                if not process.running:
                    raise _ended(process)
            if time.monotonic() > deadline:
                raise LocalRunError(
                    f"{what} did not come within {timeout_s:.0f} s; see {self._directory.logs}"
                )
            time.sleep(_POLL_S)

    def watch(self, recoveries: Mapping[str, Recovery]) -> None:
        """Watch for ever. A service with a recovery is started again when it ends.

        Raises `LocalRunError` if another one ends, or one again and again.
        """
        recovering: dict[str, float] = {}
        looked = time.monotonic()
        while True:
            if self._guard.poll() is not None:
                self._start_guard()
            if time.monotonic() - looked > LIVENESS_PERIOD_S:
                self._kill_the_hollow()
                looked = time.monotonic()
            for name, process in list(self._services.items()):
                if not process.running and not self._directory.held(name):
                    self._restart(process, recoveries)
                    recovering[name] = time.monotonic()
            for name, since in list(recovering.items()):
                if recoveries[name].recovered():
                    self._progress.note(
                        f"{name}: works again after {time.monotonic() - since:.1f} s", "green"
                    )
                    del recovering[name]
            time.sleep(_TICK_S)

    def _kill_the_hollow(self) -> None:
        """End programs that have lost a process without which they run for nothing."""
        for process in self._services.values():
            if lost := process.lost():
                self._progress.note(f"{process.name}: runs without its {lost}", "yellow")
                process.kill()

    def _restart(self, process: ManagedProcess, recoveries: Mapping[str, Recovery]) -> None:
        if process.name not in recoveries:
            raise _ended(process)
        if not recoveries[process.name].often:
            self._count_restart(process)
        self._progress.note(f"{process.name}: {process.how_it_ended()}; starting another one", "yellow")
        process.kill()  # what the program had started
        self.launch(recoveries[process.name].command())

    def _on_stop_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = signal.Signals(number).name
        if not self._starting:
            raise StopRequested(self._stop_signal)

    def _count_restart(self, process: ManagedProcess) -> None:
        now = time.monotonic()
        recent = [moment for moment in self._restarts[process.name] if now - moment < _RESTART_WINDOW_S]
        if len(recent) >= _MAX_RESTARTS:
            raise LocalRunError(
                f"{process.name} ended {len(recent) + 1} times within {_RESTART_WINDOW_S} s; its last lines "
                f"({process.log}):\n{process.last_lines()}"
            )
        self._restarts[process.name] = [*recent, now]

    def _start_guard(self) -> None:
        argv = [sys.executable, "-m", "offline.local.guard", str(self._directory.path), self._state.run_id]
        # In a session of its own, so that what ends this process's session does not end the guard.
        self._guard = subprocess.Popen(
            argv, stdin=subprocess.PIPE, cwd=self._project_dir, start_new_session=True
        )


def _ended(process: ManagedProcess) -> LocalRunError:
    return LocalRunError(
        f"{process.name} ended unexpectedly ({process.how_it_ended()}); its last lines "
        f"({process.log}):\n{process.last_lines()}"
    )
