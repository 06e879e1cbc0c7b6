"""A run from outside: start it in the background, look at it, end it."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from offline.local.options import RunOptions
from offline.local.processes import Command, ManagedProcess, ProcessIdentity, is_alive
from offline.local.serve_api import RayApi
from offline.local.state import RUN_LOG, RunState, StateDirectory

_NOT_RUNNING = 3
_INTERRUPTED = 130
# Longer than a supervisor needs to kill everything.
_STOP_TIMEOUT_S = 40.0
_POLL_S = 0.1


def start(options: RunOptions) -> int:
    """Start a supervisor in the background, show its progress, and leave it alone when the model answers.

    Returns 0 then, and otherwise the supervisor's own exit code.
    """
    directory = StateDirectory(options.state_dir)
    argv = [sys.executable, "-m", "offline", *options.run_arguments()]
    command = Command(RUN_LOG.removesuffix(".log"), argv, dict(os.environ))
    supervisor = ManagedProcess(command, logs=directory.logs, cwd=options.project_dir)

    def answered() -> bool:
        state = directory.load()
        return state is not None and state.runner == supervisor.identity and state.answered

    try:
        for line in supervisor.output(until=answered):
            print(line, flush=True)
    except KeyboardInterrupt:
        _end(supervisor.identity)
        return _INTERRUPTED
    return 0 if supervisor.running else supervisor.exit_code()


def status(stack: str, state_dir: Path) -> int:
    """Print what runs; 0 if the model answers, 3 if not."""
    directory = StateDirectory(state_dir)
    state = directory.load()
    if state is None or not is_alive(state.runner):
        print(f"stack {stack}: not running")
        return _NOT_RUNNING
    uptime = timedelta(seconds=int(time.time() - state.started_at))
    rows = [
        ("Service", state.service),
        ("Model", state.model),
        ("Ray Serve", _serve_status(directory, state)),
        *((name, address) for name, address in state.urls.items()),
        ("Logs", str(directory.logs)),
        ("Replica logs", state.ray_directory and f"{state.ray_directory}/*/session_latest/logs/serve"),
        ("Processes", ", ".join(f"{name} {pid}" for name, pid in _pids(state).items())),
    ]
    print(f"stack {stack}: {state.phase} for {uptime}")
    print("\n".join(f"  {name:<14} {value}" for name, value in rows if value))
    return 0 if state.phase == "running" else _NOT_RUNNING


def stop(stack: str, state_dir: Path) -> int:
    """End the run if there is one; always 0."""
    directory = StateDirectory(state_dir)
    state = directory.load()
    if state is None:
        print(f"stack {stack}: not running")
        return 0
    if is_alive(state.runner):
        _end(state.runner)
    directory.clean_up(state)  # nothing is left to do after a clean end
    print(f"stack {stack}: stopped")
    return 0


def _end(runner: ProcessIdentity) -> None:
    with suppress(ProcessLookupError):
        os.kill(runner.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while is_alive(runner):
            if time.monotonic() > deadline:
                os.kill(runner.pid, signal.SIGKILL)
            time.sleep(_POLL_S)


def _serve_status(directory: StateDirectory, state: RunState) -> str | None:
    if "Ray dashboard" not in state.urls:
        return None
    report = RayApi(state.urls["Ray dashboard"], directory.secret(directory.ray_token)).status()
    return "does not answer" if report is None else report.summary()


def _pids(state: RunState) -> dict[str, int]:
    alive = {name: program.pid for name, program in state.programs.items() if is_alive(program)}
    return {"supervisor": state.runner.pid, **alive}
