"""Processes of a local run: started in a session of their own, watched, and killed to the last descendant.

A session id is what every descendant keeps, also when its parents are gone: Ray's workers change their
process group, their title and their environment, but not their session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_KILL_TIMEOUT_S = 15.0
_POLL_S = 0.05
# How often to look whether a program has lost a vital process: as often as the liveness probe of a pod.
LIVENESS_PERIOD_S = 5.0
# The start time of a process is counted from the boot time, which moves a little when the clock is set.
_CLOCK_TOLERANCE_S = 10.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for ever: pids are used again, together with the start (Unix time, seconds) they are not.

    A program that was started here leads a session whose id is its pid.
    """

    pid: int
    created: float


@dataclass(frozen=True)
class Command:
    """A program to start; `name` is also that of its log file.

    `vital` are names of processes that it starts, and without which it runs for nothing.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    vital: tuple[str, ...] = ()


class ManagedProcess:
    """A program in its own session, with its output in `LOGS/NAME.log`, after what is there already."""

    def __init__(self, command: Command, *, logs: Path, cwd: Path) -> None:
        self.name = command.name
        self._vital = command.vital
        self._seen: set[str] = set()
        self.log = logs / f"{command.name}.log"
        logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=command.env,
                cwd=cwd,
                start_new_session=True,
            )
        self.identity = identity_of(self._process.pid)

    @property
    def pid(self) -> int:
        """Process id of the program itself."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program itself has not ended."""
        return self._process.poll() is None

    def lost(self) -> str | None:
        """The name of a vital process that was there and is not any more, while the program itself runs."""
        if not (self._vital and self.running):
            return None
        names = {_name(process) for process in session_members([self.identity])}
        self._seen |= names.intersection(self._vital)
        return next((name for name in self._vital if name in self._seen - names), None)

    def exit_code(self) -> int:
        """Its exit code, or minus the signal's number; waits for its end."""
        return self._process.wait()

    def how_it_ended(self) -> str:
        """`exit code 1` or `killed by SIGKILL`."""
        code = self.exit_code()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def output(self, until: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Its lines as they come, until it has ended or `until` says so."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            while True:
                ended = not self.running or until()  # before the read, so that the last lines are not lost
                lines = log.readlines()
                yield from (line.rstrip() for line in lines)
                if ended:
                    return
                time.sleep(_POLL_S)

    def last_lines(self, count: int = 15) -> str:
        """The end of its output."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            return "\n".join(line.rstrip() for line in log.readlines()[-count:])

    def kill(self) -> None:
        """Kill the program and whatever it has started."""
        kill_sessions([self.identity])
        self._process.wait()


def identity_of(pid: int) -> ProcessIdentity:
    """The identity of a process that is alive, or not yet waited for."""
    return ProcessIdentity(pid, psutil.Process(pid).create_time())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs."""
    try:
        process = psutil.Process(identity.pid)
        return _same_start(process, identity) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_members(leaders: Iterable[ProcessIdentity]) -> list[psutil.Process]:
    """Living processes of the sessions of these programs, whether or not the program itself still lives."""
    sids = {leader.pid for leader in leaders if _is_still_its_session(leader)}
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sids and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):  # it ended while we looked, or is another user's
            continue
    return found


def kill_sessions(leaders: Iterable[ProcessIdentity]) -> None:
    """Kill every process of the sessions of these programs; returns when none is left.

    Raises `TimeoutError` for processes that do not die, which the kernel holds in a system call.
    """
    remembered = list(leaders)
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    # More than one round, because a process may start another one between the look and the kill.
    while alive := session_members(remembered):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {[process.pid for process in alive]} survived SIGKILL")
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(_POLL_S)


def _is_still_its_session(leader: ProcessIdentity) -> bool:
    if leader.created < psutil.boot_time() - _CLOCK_TOLERANCE_S:
        return False
    try:
        return _same_start(psutil.Process(leader.pid), leader)
    except psutil.NoSuchProcess:
        return True  # the leader is gone; its number is not used again while others are in the session


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _same_start(process: psutil.Process, identity: ProcessIdentity) -> bool:
    return abs(process.create_time() - identity.created) < _CLOCK_TOLERANCE_S
