"""The graphs of several stacks at two revisions, evaluated next to each other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from offline.diff.revisions import Revision
from offline.errors import OfflineError, ProgramError
from offline.graph import Graph
from offline.recorder import Evaluation
from offline.stack_files import PROJECT_FILE


@dataclass(frozen=True)
class Side:
    """One revision of the project, checked out; `role` is `base` or `head`."""

    role: str
    revision: Revision
    project_dir: Path

    def stacks(self) -> list[str]:
        """Names of the stacks that have a file here."""
        files = self.project_dir.glob("Pulumi.*.yaml")
        return sorted(file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in files)

    def has(self, stack: str) -> bool:
        """Whether the revision has a project, and in it the stack."""
        return (self.project_dir / PROJECT_FILE).is_file() and stack in self.stacks()


def evaluate_stacks(
    base: Side, head: Side, stacks: Sequence[str]
) -> Iterator[tuple[str, Graph | None, Graph | None]]:
    """Graphs of every stack at both revisions; None where a revision has no file for the stack.

    As many evaluations run at a time as there are processors. Raises `OfflineError` that names the revision
    and the stack which does not evaluate, and why.
    """
    waiting = deque((side, stack) for stack in stacks for side in (base, head) if side.has(stack))
    running: deque[tuple[Side, str, Evaluation]] = deque()
    graphs: dict[tuple[str, str], Graph] = {}
    with ExitStack() as contexts:
        while waiting or running:
            while waiting and len(running) < max(os.cpu_count() or 1, 2):
                side, stack = waiting.popleft()
                running.append((side, stack, contexts.enter_context(_started(side, stack))))
            side, stack, evaluation = running.popleft()
            graphs[side.role, stack] = _finished(side, stack, evaluation)
    for stack in stacks:
        yield stack, graphs.get(("base", stack)), graphs.get(("head", stack))


def _started(side: Side, stack: str) -> Evaluation:
    try:
        return Evaluation(stack, project_dir=side.project_dir)
    except OfflineError as error:
        raise _blamed(side, stack, error) from None


def _finished(side: Side, stack: str, evaluation: Evaluation) -> Graph:
    try:
        return evaluation.graph()
    except (OfflineError, ProgramError) as error:
        raise _blamed(side, stack, error) from None


def _blamed(side: Side, stack: str, error: Exception) -> OfflineError:
    # Base and head are both the user's to put right, also where the program itself is broken. Paths of a
    # checkout that is gone by the time they are read become paths in the project.
    reason = str(error).replace(f"{side.project_dir}/", "")
    return OfflineError(f"{side.role} {side.revision}, stack {stack!r}, does not evaluate: {reason}")
