"""`offline.local.processes`, `ports` and `state`: what a run starts, holds and leaves."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from offline.local.ports import Endpoint, conflicts, free_ports
from offline.local.processes import (
    Command,
    ManagedProcess,
    identity_of,
    is_alive,
    kill_sessions,
    session_members,
)
from offline.local.state import RunState, StateDirectory, new_run_id

# Starts a child that changes its process group, says its pid and outlives its parent.
ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=os.setpgrp)
print(child.pid, flush=True)
"""
SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ManagedProcess]]:
    started: list[ManagedProcess] = []

    def start_(script: str, name: str = "program") -> ManagedProcess:
        command = Command(name, [sys.executable, "-c", script], dict(os.environ))
        started.append(ManagedProcess(command, logs=tmp_path / "logs", cwd=tmp_path))
        return started[-1]

    yield start_
    for process in started:
        process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    state_directory = StateDirectory(tmp_path / "state")
    state_directory.path.mkdir()
    return state_directory


def a_state(**fields: object) -> RunState:
    state = RunState(new_run_id(), identity_of(os.getpid()), started_at=time.time())
    return dataclasses.replace(state, **fields)


# --- processes -----------------------------------------------------------------------------------------


def test_orphans_in_other_process_groups_are_killed_with_their_session(
    start: Callable[..., ManagedProcess],
) -> None:
    process = start(ORPHAN)
    orphan = psutil.Process(int(next(process.output())))
    assert process.exit_code() == 0
    kill_sessions([process.identity])
    assert session_members([process.identity]) == []
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_other_sessions_survive(start: Callable[..., ManagedProcess]) -> None:
    ours, other = start(SLEEPER), start(SLEEPER, "other")
    kill_sessions([ours.identity])
    assert ours.how_it_ended() == "killed by SIGKILL"
    assert other.running


def test_a_pid_that_means_another_process_by_now_is_not_killed(start: Callable[..., ManagedProcess]) -> None:
    process = start(SLEEPER)
    long_ago = dataclasses.replace(process.identity, created=process.identity.created - 3600)
    assert not is_alive(long_ago)
    kill_sessions([long_ago])
    assert process.running


def test_output_of_an_earlier_program_in_the_same_log_is_not_repeated(
    start: Callable[..., ManagedProcess],
) -> None:
    assert list(start("print('first')").output()) == ["first"]
    second = start("print('second')")
    assert list(second.output()) == ["second"]
    assert second.last_lines() == "second"
    assert second.log.read_text() == "first\nsecond\n"


# --- ports ---------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_its_holder_and_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        [finding] = conflicts({"API": Endpoint("127.0.0.1", port, "--api-port")})
    assert f"port {port} for the API is in use by" in finding
    assert f"(pid {os.getpid()})" in finding
    assert "--api-port PORT" in finding


def test_a_port_asked_for_twice_is_refused() -> None:
    [port] = free_ports(1, "127.0.0.1")
    endpoints = {
        "API": Endpoint("127.0.0.1", port, "--api-port"),
        "chat page": Endpoint("127.0.0.1", port, "--ui-port"),
    }
    [finding] = conflicts(endpoints)
    assert f"port {port} is asked for twice, by the API and the chat page" in finding
    assert "--ui-port PORT" in finding


def test_an_address_of_another_machine_is_refused() -> None:
    [finding] = conflicts({"API": Endpoint("192.0.2.1", 8000, "--api-port")})
    assert "192.0.2.1 cannot be opened" in finding


def test_free_ports_are_no_conflict() -> None:
    ports = free_ports(3, "127.0.0.1")
    assert len(set(ports)) == 3
    assert conflicts({str(port): Endpoint("127.0.0.1", port, "--api-port") for port in ports}) == []


# --- state ---------------------------------------------------------------------------------------------


def test_a_state_is_read_back_as_it_was_saved(directory: StateDirectory) -> None:
    state = a_state(programs={"ray-head": identity_of(os.getpid())}, urls={"API": "http://127.0.0.1:1"})
    directory.save(state)
    assert directory.load() == state


def test_only_one_run_holds_the_directory(directory: StateDirectory) -> None:
    lock = directory.lock()
    assert lock is not None
    assert directory.lock() is None
    lock.release()
    again = directory.lock()
    assert again is not None
    again.release()


def test_secrets_are_drawn_once_and_only_the_user_can_read_them(directory: StateDirectory) -> None:
    secret = directory.secret(directory.api_keys)
    assert len(secret) >= 32
    assert directory.secret(directory.api_keys) == secret
    assert stat.S_IMODE(directory.api_keys.stat().st_mode) == 0o600


def test_cleaning_up_kills_keeps_the_logs_and_forgets(
    directory: StateDirectory, start: Callable[..., ManagedProcess], tmp_path: Path
) -> None:
    logs = tmp_path / "ray" / "head" / "session_2026-01-01_00-00-00_000000_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "gcs_server.out").write_text("hello")
    process = start(SLEEPER)
    state = a_state(programs={"ray-head": process.identity}, ray_directory=str(tmp_path / "ray"))
    directory.save(state)
    directory.clean_up(state)
    assert process.how_it_ended() == "killed by SIGKILL"
    assert (directory.logs / "ray-head" / "gcs_server.out").read_text() == "hello"
    assert not (tmp_path / "ray").exists()
    assert directory.load() is None
    directory.clean_up(state)  # a second time finds nothing to do


def test_cleaning_up_an_old_run_leaves_a_newer_one_alone(directory: StateDirectory) -> None:
    old, new = a_state(), a_state()
    directory.save(new)
    directory.clean_up(old)
    assert directory.load() == new


def test_the_guard_cleans_up_when_its_supervisor_is_killed(
    directory: StateDirectory, start: Callable[..., ManagedProcess]
) -> None:
    service = start(SLEEPER)
    state = a_state(programs={"service": service.identity})
    directory.save(state)
    root = Path(__file__).parent.parent.parent
    # A supervisor that starts the guard as the real one does, and then does nothing.
    supervisor = start(
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-m', 'offline.local.guard', {str(directory.path)!r}, "
        f"{state.run_id!r}], stdin=subprocess.PIPE, cwd={str(root)!r}, start_new_session=True)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n",
        "supervisor",
    )
    assert next(supervisor.output()) == "ready"
    assert service.running
    os.kill(supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while directory.load() is not None:
        assert time.monotonic() < deadline, "the guard did not clean up"
        time.sleep(0.05)
    assert service.how_it_ended() == "killed by SIGKILL"
