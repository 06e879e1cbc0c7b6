"""What can happen to a program that `ManagedProcess` started, done to all of its processes at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

from offline.local.processes import ProcessIdentity, kill_sessions, session_members


def kill(leader: ProcessIdentity) -> None:
    """End the program and all that it started without a chance to say goodbye, as a lost machine."""
    # Stopped first, so that none of them sees the others die and reports it.
    _signal(session_members([leader]), signal.SIGSTOP)
    kill_sessions([leader])


def pause(leader: ProcessIdentity) -> None:
    """Freeze it: connections stay open and nothing answers."""
    _signal(session_members([leader]), signal.SIGSTOP)


def resume(leader: ProcessIdentity) -> None:
    """End what `pause` began."""
    _signal(session_members([leader]), signal.SIGCONT)


def ask_to_end(leader: ProcessIdentity) -> None:
    """Send SIGTERM, as Kubernetes does to a pod that has to go."""
    for process in _program(leader):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


def _program(leader: ProcessIdentity) -> list[psutil.Process]:
    """The program itself; inside a process namespace of its own that is the child of `unshare`."""
    process = psutil.Process(leader.pid)
    return process.children() if process.name() == "unshare" else [process]


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
