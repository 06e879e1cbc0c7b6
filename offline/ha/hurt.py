"""`python -m offline hurt`: do something to a part of a local run that has spare parts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from offline.errors import OfflineError
from offline.ha import harm
from offline.ha.spares import WORKERS
from offline.ha.store import PRIMARY
from offline.local.processes import ProcessIdentity, is_alive
from offline.local.ray_cluster import HEAD
from offline.local.state import StateDirectory

PARTS = {"head": HEAD, "worker-1": WORKERS[0], "worker-2": WORKERS[1], "redis": PRIMARY}
Way = Literal["kill", "pause", "drain"]


def hurt(stack: str, state_dir: Path, part: str, way: Way, seconds: float) -> int:
    """Do it, and say what follows. Raises `OfflineError` where there is nothing to hurt."""
    directory = StateDirectory(state_dir)
    program = _program(stack, directory, part)
    name = PARTS[part]
    if way == "pause":
        print(f"{part} stands still for {seconds:g} s; Ctrl-C lets it go on at once", flush=True)
        harm.pause(program)
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            pass
        finally:
            harm.resume(program)
        print(f"{part} goes on")
        return 0
    directory.hold(name, time.time() + seconds)
    if way == "drain":
        harm.ask_to_end(program)
        print(f"{part} got SIGTERM: it takes no new requests, ends those it has, and is then started again")
    else:
        harm.kill(program)
        print(f"{part} is dead; it is started again in {seconds:g} s")
    return 0


def _program(stack: str, directory: StateDirectory, part: str) -> ProcessIdentity:
    state = directory.load()
    if state is None or not is_alive(state.runner):
        raise OfflineError(f"stack {stack!r} is not running; start it with: make local ARGS=--ha")
    program = state.programs.get(PARTS[part])
    if program is None:
        raise OfflineError(
            f"the run of stack {stack!r} has no {part}; only one with spare parts has: make local ARGS=--ha"
        )
    if not is_alive(program):
        raise OfflineError(f"{part} is down already; `make local-status` shows what runs")
    return program
