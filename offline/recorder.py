"""Evaluates a Pulumi project without engine, providers or cluster: `evaluate` returns its graph.

The real `__main__.py` runs, with the real SDK, against a monitor that records (`offline.monitor`), in a fresh
interpreter (`offline.program`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline.errors import OfflineError, ProgramError
from offline.graph import Graph
from offline.stack_files import read_stack

# The checkout this file belongs to.
_ROOT = Path(__file__).resolve().parent.parent


def evaluate(
    stack: str,
    *,
    project_dir: Path = _ROOT,
    unknowns: bool = False,
    config_overrides: Mapping[str, Any] | None = None,
    stack_file: Path | None = None,
) -> Graph:
    """Run a project's program for one stack and return what it registers.

    With `unknowns` it runs as a first preview does: ids and outputs are unknown, and functions given to
    `apply` on them do not run. `config_overrides` replace values of the stack file; a key without a namespace
    is the project's, `{"secure": ...}` stands for a secret. `stack_file` is read in place of the project's.

    Raises `OfflineError` for what a user can put right (stack, files, configuration) and `ProgramError` for a
    program that fails in any other way.
    """
    evaluation = Evaluation(
        stack,
        project_dir=project_dir,
        unknowns=unknowns,
        config_overrides=config_overrides,
        stack_file=stack_file,
    )
    with evaluation:
        return evaluation.graph()


class Evaluation:
    """An evaluation that has begun; several run at the same time. Leaving its context ends it.

    Takes what `evaluate` takes, and raises `OfflineError` where nothing can be run.
    """

    def __init__(
        self,
        stack: str,
        *,
        project_dir: Path = _ROOT,
        unknowns: bool = False,
        config_overrides: Mapping[str, Any] | None = None,
        stack_file: Path | None = None,
    ) -> None:
        project_dir = project_dir.resolve()
        settings = read_stack(project_dir, stack, config_overrides, stack_file=stack_file)
        if not (project_dir / "__main__.py").is_file():
            raise OfflineError(f"{project_dir} has a Pulumi.yaml but no program: __main__.py is missing")
        request = {
            "project_dir": str(project_dir),
            "project": settings.project,
            "stack": settings.stack,
            "config": settings.config,
            "secret_keys": settings.secret_keys,
            "unknowns": unknowns,
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:
            json.dump(request, stdin)
            stdin.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offline.program"],
                cwd=_ROOT,
                env=_environment(),
                stdin=stdin,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                # Ctrl-C is for this process alone, which then ends the other without a word from it.
                start_new_session=True,
            )

    def graph(self) -> Graph:
        """What the program registers, once it has ended. Raises as `evaluate` does."""
        output, _ = self._process.communicate()
        try:
            answer = json.loads(output)
        except ValueError:
            status = self._process.returncode
            raise ProgramError(f"the program ended its interpreter, exit status {status}") from None
        if "refused" in answer:
            raise OfflineError(answer["refused"])
        if "broken" in answer:
            raise ProgramError(answer["broken"])
        return Graph.from_json(answer["graph"])

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:
            pass  # closes the pipe and reaps the process


def _environment() -> dict[str, str]:
    # Configuration of a Pulumi run that this process may be part of is not this stack's.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PULUMI_CONFIG")}
    # An Output in an f-string is a mistake that a deployment only warns of.
    environment["PULUMI_ERROR_OUTPUT_STRING"] = "true"
    # There is no cloud and no cluster, so the program need not ask what it would need to reach them.
    environment["NEURON_SERVE_OFFLINE"] = "true"
    # Sets keep their order from run to run, and with them what a program builds by iterating over one.
    environment["PYTHONHASHSEED"] = "0"
    return environment
