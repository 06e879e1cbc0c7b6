"""What a local run leaves on disk for `status`, `stop`, the guard and the next run.

One directory a stack: `state.json`, `run.lock` (held while a run lives), secrets (mode 0600) and `logs/`.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from offline.local.processes import ProcessIdentity, kill_sessions

# What a run in the background prints.
RUN_LOG = "run.log"

Phase = Literal["starting", "running", "stopping"]


@dataclass
class RunState:
    """A run that lives, or that died without cleaning up. Times are Unix times in seconds."""

    run_id: str
    runner: ProcessIdentity
    started_at: float
    phase: Phase = "starting"
    answered: bool = False
    programs: dict[str, ProcessIdentity] = field(default_factory=dict[str, ProcessIdentity])
    ray_directory: str | None = None
    service: str | None = None
    model: str | None = None
    urls: dict[str, str] = field(default_factory=dict[str, str])


class StateDirectory:
    """Paths and files of one stack's run."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.ray_token = self.path / "ray-token"
        self.api_keys = self.path / "api-keys"
        self.store = self.path / "redis"
        self._state = self.path / "state.json"

    def load(self) -> RunState | None:
        """The state of the last run, if it has not ended cleanly."""
        try:
            raw = json.loads(self._state.read_text())
        except FileNotFoundError:
            return None
        return RunState(
            **raw
            | {
                "runner": ProcessIdentity(**raw["runner"]),
                "programs": {name: ProcessIdentity(**entry) for name, entry in raw["programs"].items()},
            }
        )

    def save(self, state: RunState) -> None:
        """Replace the state in one step, so that a reader never sees half of it."""
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps(dataclasses.asdict(state), indent=2) + "\n")
        partial.replace(self._state)

    def clean_up(self, state: RunState) -> None:
        """Kill what the run has started, keep Ray's logs, and forget the run.

        The guard is not among its processes; it ends by itself. A run that has started since is left alone.
        """
        kill_sessions(state.programs.values())
        for file in self.path.glob("*.held"):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.store, ignore_errors=True)
        if state.ray_directory:
            keep_ray_logs(Path(state.ray_directory), self.logs)
            shutil.rmtree(state.ray_directory, ignore_errors=True)
        current = self.load()
        if current is not None and current.run_id == state.run_id:
            self._state.unlink(missing_ok=True)

    def hold(self, name: str, until: float) -> None:
        """Keep a service that ends from being started again before this Unix time."""
        self._held(name).write_text(str(until))

    def held(self, name: str) -> bool:
        """Whether `hold` still holds."""
        file = self._held(name)
        return file.exists() and float(file.read_text() or 0) > time.time()

    def _held(self, name: str) -> Path:
        return self.path / f"{name}.held"

    def forget_logs(self) -> None:
        """Remove the logs of the run before, but not the one that this run may be writing to."""
        for path in self.logs.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != RUN_LOG:
                path.unlink()

    def lock(self) -> FileLock | None:
        """Hold the directory for one run until this process ends; None if another run holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def secret(self, path: Path) -> str:
        """The secret in this file, drawn on first use; only the user can read it."""
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_urlsafe(32) + "\n")
            partial.replace(path)
        return path.read_text().strip()


def new_run_id() -> str:
    """Tells runs of the same stack apart."""
    return secrets.token_hex(8)


def keep_ray_logs(ray_directory: Path, logs: Path) -> None:
    """Move the logs of nodes and replicas to `logs`; those of the run before go."""
    for found in ray_directory.glob("*/session_2*/logs"):
        kept = logs / f"ray-{found.parent.parent.name}"
        shutil.rmtree(kept, ignore_errors=True)
        with suppress(FileNotFoundError):  # the guard and `stop` may both be at it
            shutil.move(found, kept)
