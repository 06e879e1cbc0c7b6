"""A stack of the project under the real Pulumi CLI: a checkout, a backend and a stack file of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.graph.stacks import CHECKOUT, copy_of_the_checkout

Config = dict[str, Any]

# A first `up` on a busy machine with two cores, a release check that waits until its end, and a margin.
_PATIENCE_S = 1500
_POLL_S = 0.1


@dataclass(frozen=True)
class Finished:
    """A command that has ended, with all it said."""

    command: str
    code: int
    output: str
    seconds: float

    def expect(self, code: int = 0) -> Finished:
        """This, if it ended with the code."""
        assert self.code == code, (
            f"{self.command} ended with {self.code} after {self.seconds:.0f} s\n{self.output}"
        )
        return self


class Running:
    """A command in the background, whose output goes to a file."""

    def __init__(self, command: list[str], project: Path, environment: dict[str, str], log: Path) -> None:
        self._name = " ".join(command)
        self._log = log
        self._began = time.monotonic()
        # In a session of its own: Ctrl-C at the terminal is for the tests, which then destroy what they made.
        with log.open("w") as out:
            self._process = subprocess.Popen(
                command,
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait(self) -> Finished:
        """Its end. A command that does not come to one is killed and the test fails."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -1
        return Finished(self._name, code, self._log.read_text(), time.monotonic() - self._began)

    def interrupt_when(self, condition: Callable[[], object], how: signal.Signals) -> Finished:
        """End it by the signal once the condition holds. Its code is 0 if it succeeded before that."""
        try:
            while not condition():
                if self.is_over:
                    return self.wait().expect()
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise
        if how == signal.SIGKILL:
            self.kill()
        else:
            self._process.send_signal(how)
        return self.wait()

    def kill(self) -> None:
        """As a machine that is switched off: the engine and all its plugins, at once."""
        if self.is_over:
            return
        engine = psutil.Process(self._process.pid)
        for process in [engine, *engine.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Stack:
    """`pulumi` on a stack; `directory` is its own, `logs` gets a file a command."""

    def __init__(self, name: str, directory: Path, logs: Path) -> None:
        self.name = name
        self.config: Config | None = None
        """What the last `up` that succeeded was given; None where nothing is known."""
        self._logs = logs
        self._commands = 0
        self._project = copy_of_the_checkout(directory / "project")
        (self._project / ".venv").symlink_to(CHECKOUT / ".venv")
        backend = directory / "backend"
        backend.mkdir()
        self._environment = os.environ | {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self.run("stack", "init").expect()

    def run(self, *arguments: str) -> Finished:
        """A command on this stack, to its end."""
        return self.begin(*arguments).wait()

    def begin(self, *arguments: str) -> Running:
        """The same in the background."""
        self._commands += 1
        log = self._logs / f"{self.name}-{self._commands:02}-{arguments[0]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = ["--stack", self.name, "--non-interactive", "--color", "never"]
        return Running(["pulumi", *arguments, *flags], self._project, self._environment, log)

    def begin_up(self, config: Config) -> Running:
        """`pulumi up` of another stack file, in the background."""
        self.config = None
        file = self._project / f"Pulumi.{self.name}.yaml"
        # The rest is the CLI's own: the salt of the passphrase.
        kept = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**kept, "config": config}))
        return self.begin("up", "--yes", "--skip-preview")

    def up(self, config: Config) -> Finished:
        """`pulumi up` of a stack file that succeeds."""
        done = self.begin_up(config).wait().expect()
        self.config = config
        return done

    def ensure(self, config: Config) -> None:
        """Where a story begins: nothing is done if the last one ended there."""
        if self.config != config:
            self.up(config)

    def up_fails(self, config: Config) -> Finished:
        """`pulumi up` of a stack file that cannot come up."""
        done = self.begin_up(config).wait()
        assert done.code != 0, f"{done.command} was to fail\n{done.output}"
        return done

    def unchanged(self) -> Finished:
        """`pulumi up` of the same stack file, with its preview, that finds nothing to do."""
        return self.run("up", "--yes", "--expect-no-changes").expect()

    def refresh(self) -> Finished:
        """`pulumi refresh`."""
        return self.run("refresh", "--yes").expect()

    def destroy(self) -> Finished:
        """`pulumi destroy`."""
        self.config = None
        return self.run("destroy", "--yes").expect()

    def close(self) -> None:
        """Leave nothing behind, whatever became of the tests."""
        self.unlock()
        self.destroy()

    def unlock(self) -> None:
        """What an engine that was killed leaves of a backend in files is a lock, and only this removes it."""
        self.run("cancel", "--yes").expect()

    def output(self, name: str) -> Any:
        """An output of the stack."""
        text = self.run("stack", "output", "--json", "--show-secrets").expect().output
        return json.loads(text)[name]
