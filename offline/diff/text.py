"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from offline.diff import wording
from offline.diff.comparison import Changed
from offline.diff.report import Report, StackReport, for_reading
from policy.model import Violation


def text(report: Report) -> str:
    """The report as plain text, one section a stack."""
    lines = [f"{report.base} → {report.head}"]
    for stack in report.stacks:
        lines += ["", *_stack(stack)]
    return "\n".join(lines) + "\n"


def _stack(stack: StackReport) -> Iterator[str]:
    yield f"{stack.stack}: {wording.summary(stack)}"
    yield from (f"  ! {warning}" for warning in stack.warnings)
    for sign, resources in (("+", stack.comparison.added), ("-", stack.comparison.removed)):
        yield from (f"  {sign} {resource.label}  [{resource.type}]" for resource in resources)
    for changed in stack.comparison.changed:
        yield from _changed(changed)
    yield from _violations("policy violations there were before", stack.existing_violations)
    yield from _violations("policy violations that are gone", stack.fixed_violations)
    if not stack.quiet:
        yield from (f"  note: {note}" for note in stack.notes)


def _changed(changed: Changed) -> Iterator[str]:
    yield f"  ~ {changed.resource.label}  {wording.action(changed)}"
    for change in (*changed.properties, *changed.options):
        yield f"      {for_reading(change, '→')}"
    if changed.rollout:
        yield from (f"      ⇒ {line}" for line in wording.consequences(changed.rollout))


def _violations(title: str, violations: list[Violation]) -> Iterator[str]:
    if violations:
        yield f"  {title}:"
        yield from (f"    {found.rule}: {found.resource}: {found.message}" for found in violations)
