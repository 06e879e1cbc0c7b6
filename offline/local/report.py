"""What a local run tells its user: every stage with its time, then where everything is."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from offline.local.first_answer import QUESTIONS
from offline.local.preparation import LocalModel
from offline.local.substitutions import Substitution


class Progress:
    """Lines with the time since the start. On a terminal the stage in progress has a spinner."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def note(self, text: str, style: str = "") -> None:
        """A line within or between stages."""
        elapsed = time.monotonic() - self._started
        self._console.print(f"[dim]{elapsed:7.1f} s[/]  [{style or 'default'}]{escape(text)}[/]")

    def show(self, text: str) -> None:
        """Text without a time, as it is."""
        self._console.print(escape(text))

    @contextmanager
    def stage(self, name: str) -> Generator[Stage]:
        """A step; its last word is the stage's `result`. Nothing is said about one that raises."""
        began = time.monotonic()
        with self._console.status(escape(name)) as status:
            stage = Stage(self, name, status)
            yield stage
        took = time.monotonic() - began
        self.note(f"{name}: {stage.result} ({took:.1f} s)", "green")


class Stage:
    """The stage in progress."""

    def __init__(self, progress: Progress, name: str, status: Status) -> None:
        self.result = "done"
        self._progress = progress
        self._name = name
        self._status = status
        self._last = ""

    def update(self, text: str) -> None:
        """Say what goes on, once for every change."""
        if text != self._last:
            self._last = text
            self._status.update(escape(f"{self._name}: {text}"))
            self._progress.note(f"  {text}", "dim")


def substitution_lines(substitutions: Sequence[Substitution]) -> list[str]:
    """The differences from the stack's serve config, one a line."""
    if not substitutions:
        return ["serve config: deployed unchanged"]
    lines = ["serve config: deployed with these substitutions, otherwise unchanged"]
    return lines + [f"  {s.what}: {s.was} -> {s.becomes} ({s.why})" for s in substitutions]


@dataclass(frozen=True)
class Summary:
    """What a user needs to know about a run that answers. `model` is None for an app without our API."""

    stack: str
    model: LocalModel | None
    api_url: str
    ui_url: str | None
    dashboard_url: str
    token_file: Path
    api_keys_file: Path | None
    logs: Path
    stop: str
    grpc: str | None = None

    def text(self) -> str:
        """The block at the end of a start, with commands to copy."""
        rows = [
            ("API", f"{self.api_url}/v1" if self.model else self.api_url),
            ("gRPC", self.grpc),
            ("Chat page", self.ui_url),
            ("Ray dashboard", f"{self.dashboard_url}  (it asks for the token in {self.token_file})"),
            ("Model", self.model.served_name if self.model else None),
            ("Logs", str(self.logs)),
            ("Stop", self.stop),
        ]
        table = "\n".join(f"  {name:<14} {value}" for name, value in rows if value)
        ask = f"\n\nAsk it something:\n\n{self._curl(self.model)}\n" if self.model else "\n"
        return f"\nStack {self.stack} is running.\n\n{table}{ask}"

    def _curl(self, model: LocalModel) -> str:
        question = QUESTIONS[model.app]
        lines = [f"curl {self.api_url}{question.path}"]
        if self.api_keys_file:
            # Double quotes, so that the shell reads the key when the command runs.
            lines.append(f'-H "Authorization: Bearer $(cat {shlex.quote(str(self.api_keys_file))})"')
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d {shlex.quote(json.dumps(question.of(model.served_name)))}")
        return "  " + " \\\n    ".join(lines)
