"""The store on this machine: what it holds outlives its primary, at the same address."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline.ha import harm
from offline.ha.store import PRIMARY, REPLICA, SERVERS, Store
from offline.local.processes import ManagedProcess
from tests.waiting import wait_until


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"{request.param} is not installed")
    return found


@pytest.fixture
def started() -> Iterator[list[ManagedProcess]]:
    programs: list[ManagedProcess] = []
    yield programs
    for program in programs:
        program.kill()


def ask(store: Store, *words: str, password: str | None = None, tls: bool = True) -> str:
    argv = [store.server.replace("-server", "-cli"), "-h", "127.0.0.1", "-p", str(store.port), *words]
    argv[1:1] = ["--tls", "--cacert", str(store.ca)] if tls else []
    env = {"REDISCLI_AUTH": password} if password else {}
    asked = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
    return asked.stdout + asked.stderr


def test_a_replica_takes_over_with_everything(
    server: str, tmp_path: Path, started: list[ManagedProcess]
) -> None:
    store = Store(tmp_path, "127.0.0.1", server=server)
    for name in (PRIMARY, REPLICA):
        started.append(ManagedProcess(store.command(name), logs=tmp_path, cwd=tmp_path))
        wait_until(lambda name=name: store.answers(name))
    assert store.address == f"rediss://127.0.0.1:{store.port}"
    assert "OK" in ask(store, "SET", "state", "of the head", password=store.password)
    # The replica answers before it has everything.
    assert ask(store, "WAIT", "1", "20000", password=store.password).strip() == "1"
    harm.kill(started[0].identity)
    assert not store.answers()
    store.promote_replica()
    wait_until(store.answers)
    assert "of the head" in ask(store, "GET", "state", password=store.password)
    assert store.keys() == 1


def test_it_wants_the_password_and_tls(server: str, tmp_path: Path, started: list[ManagedProcess]) -> None:
    store = Store(tmp_path, "127.0.0.1", server=server)
    program = ManagedProcess(store.command(PRIMARY), logs=tmp_path, cwd=tmp_path)
    started.append(program)
    wait_until(store.answers)
    assert "NOAUTH" in ask(store, "PING")
    assert "PONG" not in ask(store, "PING", password=store.password, tls=False)
    assert store.password not in Path(f"/proc/{program.pid}/cmdline").read_text()
    assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0
