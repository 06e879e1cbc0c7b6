"""The command `diff` of `python -m offline`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from offline.errors import OfflineError
from offline.local.cli import Subparsers

if TYPE_CHECKING:
    from offline.diff.evaluations import Side
    from offline.diff.report import Report
    from policy.rules import Config

_EXIT_VIOLATIONS = 1
_WORK_TREE = "work tree"
_FORMATS = {".txt": "text", ".md": "markdown", ".json": "json"}


def add_command(subparsers: Subparsers) -> None:
    """Add the command; its parser sets `handler`, a function from the parsed arguments to an exit code."""
    parser = subparsers.add_parser(
        "diff",
        help="show what a change does to the stacks",
        description="Evaluate the program at two git revisions and show what the engine would add, change, "
        "replace and remove, what that does to running models, cost and NeuronCores, and which policies it "
        "breaks. Needs no account, no cluster and no state: it compares two programs, not a program "
        "with what is deployed.",
    )
    parser.add_argument("--base", required=True, metavar="REV", help="revision to compare with: origin/main")
    parser.add_argument(
        "--head", default=_WORK_TREE, metavar="REV", help="revision to look at (default: the work tree)"
    )
    parser.add_argument(
        "--stack", action="append", metavar="NAME", help="stack to evaluate, repeatable (default: all)"
    )
    parser.add_argument(
        "--format",
        choices=["text", "markdown", "json"],
        default="text",
        help="text: for a terminal; markdown: for a comment, at most 65,000 characters; json: everything "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        action="append",
        type=_report_file,
        default=[],
        metavar="FILE",
        help="write the report there instead; the ending, .txt, .md or .json, says the format; repeatable",
    )
    parser.add_argument(
        "--fail-on",
        choices=["nothing", "new-violations", "violations"],
        default="nothing",
        help="end with exit code 1 for violations of mandatory policies (default: %(default)s)",
    )
    parser.add_argument(
        "--policy-config",
        type=Path,
        metavar="FILE",
        help="of the policies (default: policy/policy-config.json)",
    )
    parser.add_argument(
        "--project-dir",
        type=Path,
        metavar="DIR",
        help="directory with Pulumi.yaml (default: the nearest from here upwards)",
    )
    parser.set_defaults(handler=_diff)


def _diff(options: argparse.Namespace) -> int:
    from offline.diff.evaluations import Side, evaluate_stacks
    from offline.diff.report import Report, stack_report
    from offline.diff.revisions import Repository, Revision
    from offline.stack_files import find_project

    policies = _policies(options.policy_config)
    repository = Repository.of(options.project_dir or find_project(Path.cwd()))
    base = repository.resolve(options.base)
    head = Revision(_WORK_TREE, None) if options.head == _WORK_TREE else repository.resolve(options.head)
    with _ended_by_signals(), repository.checkout(base) as old, repository.checkout(head) as new:
        sides = Side("base", base, old), Side("head", head, new)
        stacks = _stacks(*sides, options.stack)
        print(f"evaluating {', '.join(stacks)} at {base} and {head}", file=sys.stderr)
        report = Report(
            base=str(base),
            head=str(head),
            stacks=[stack_report(*found, policies) for found in evaluate_stacks(*sides, stacks)],
        )
    if not options.output:
        print(_rendered(report, options.format), end="")
    for path in options.output:
        _write(_rendered(report, _FORMATS[path.suffix]), path)
    levels = {name: enforcement.level for name, enforcement in policies.items()}
    broken = {
        "nothing": [],
        "new-violations": [found for stack in report.stacks for found in stack.new_violations],
        "violations": [
            found for stack in report.stacks for found in (*stack.new_violations, *stack.existing_violations)
        ],
    }[options.fail_on]
    return _EXIT_VIOLATIONS if any(levels.get(found.rule) != "advisory" for found in broken) else 0


def _stacks(base: Side, head: Side, wanted: list[str] | None) -> list[str]:
    there = sorted({*base.stacks(), *head.stacks()})
    for stack in wanted or []:
        if stack not in there:
            raise OfflineError(
                f"stack {stack!r} has no file at {base.revision} nor at {head.revision}; "
                f"stacks there: {', '.join(there) or 'none'}"
            )
    if not there:
        raise OfflineError(f"neither {base.revision} nor {head.revision} has a stack file, Pulumi.STACK.yaml")
    return list(dict.fromkeys(wanted)) if wanted else there


def _policies(path: Path | None) -> Config:
    from policy.rules import CONFIG_FILE, read_config

    try:
        return read_config(path or CONFIG_FILE)
    except OSError as error:
        raise OfflineError(f"the policy configuration {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise OfflineError(f"the policy configuration is wrong: {error}") from None


def _rendered(report: Report, format_: str) -> str:
    from offline.diff.markdown import markdown
    from offline.diff.text import text

    if format_ == "json":
        return json.dumps(report.to_json(), indent=2) + "\n"
    return markdown(report) if format_ == "markdown" else text(report)


def _report_file(text: str) -> Path:
    path = Path(text)
    if path.suffix not in _FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} ends with none of {', '.join(_FORMATS)}")
    return path


def _write(report: str, path: Path) -> None:
    try:
        path.write_text(report, encoding="utf-8")
    except OSError as error:
        raise OfflineError(f"--output {path} cannot be written: {error.strerror}") from None


@contextmanager
def _ended_by_signals() -> Generator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that nothing stays behind."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
