"""The report for a comment on a pull request: a summary first, the rest to unfold, within the limit."""

from __future__ import annotations

from collections.abc import Iterator

from offline.diff import wording
from offline.diff.comparison import Changed
from offline.diff.report import Report, StackReport, for_reading
from offline.graph import Resource
from policy.model import Violation

LONGEST = 65_000
"""Characters; GitHub refuses comments of more than 65,536, and whoever posts it adds a line of its own."""

_CUT = "\n\n*The rest is left out: a comment has no more room. `python -m offline diff` shows all of it.*\n"


def markdown(report: Report) -> str:
    """The report as GitHub's Markdown."""
    head = [f"### Stacks: {_escaped(report.base)} → {_escaped(report.head)}", ""]
    for stack in report.stacks:
        head.append(f"- **{_escaped(stack.stack)}**: {_escaped(wording.summary(stack))}")
        head += [f"  - :warning: {_escaped(warning)}" for warning in stack.warnings]
    return _fitted("\n".join(head) + "\n", [_details(stack) for stack in report.stacks if not stack.quiet])


def _fitted(head: str, sections: list[list[str]]) -> str:
    """Head and sections, cut between two lines where they would be too long; every section is closed."""
    if len(head) > LONGEST - len(_CUT):
        return head[: LONGEST - len(_CUT)].rpartition("\n")[0] + _CUT
    result = head
    for lines in sections:
        *body, end = lines
        for number, line in enumerate(body):
            if len(result) + len(line) + len(end) + 2 > LONGEST - len(_CUT):
                # A section of which not even the title fits is not opened.
                return result + (f"{end}\n" if number else "") + _CUT
            result += f"{line}\n"
        result += f"{end}\n"
    return result


def _details(stack: StackReport) -> list[str]:
    comparison = stack.comparison
    return [
        f"\n<details><summary>{_escaped(stack.stack)}: {_escaped(wording.summary(stack))}</summary>\n",
        *_resources("Added", comparison.added),
        *_changes(comparison.changed),
        *_resources("Removed", comparison.removed),
        *_violations("Policy violations, new", stack.new_violations),
        *_violations("Policy violations there were before", stack.existing_violations),
        *_violations("Policy violations that are gone", stack.fixed_violations),
        *(f"\n*Note: {_escaped(note)}.*" for note in stack.notes),
        "\n</details>",
    ]


def _resources(title: str, resources: list[Resource]) -> Iterator[str]:
    if resources:
        yield f"\n**{title}**\n"
        yield from (f"- {_code(resource.label)} {_code(resource.type)}" for resource in resources)


def _changes(changes: list[Changed]) -> Iterator[str]:
    if changes:
        yield "\n**Changed**\n"
    for changed in changes:
        yield f"- {_code(changed.resource.label)}: {_escaped(wording.action(changed))}"
        yield from (
            f"  - {for_reading(change, '→', _code)}" for change in (*changed.properties, *changed.options)
        )
        if changed.rollout:
            yield from (f"  - ⇒ {_escaped(line)}" for line in wording.consequences(changed.rollout))


def _violations(title: str, violations: list[Violation]) -> Iterator[str]:
    if violations:
        yield f"\n**{title}**\n"
        yield from (
            f"- {_code(found.rule)}: {_code(found.resource)}: {_escaped(found.message)}"
            for found in violations
        )


def _code(value: str) -> str:
    """Inline code with a fence longer than any in it: a value from a pull request stays a value."""
    flat = value.replace("\r", " ").replace("\n", " ")
    fence = "`"
    while fence in flat:
        fence += "`"
    return f"{fence} {flat} {fence}" if "`" in flat else f"{fence}{flat}{fence}"


def _escaped(value: str) -> str:
    """Text that GitHub shows as it is: no markup, no HTML, no mention of a user or an issue."""
    flat = value.replace("\r", " ").replace("\n", " ")
    for character in "\\`*_[]|~":
        flat = flat.replace(character, f"\\{character}")
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return flat.replace("@", "@\u200b").replace("#", "#\u200b")
