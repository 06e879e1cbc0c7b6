"""`make chaos`: play every scenario, show what happens, and write the documentation's table and picture."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.ha import report
from tests.ha.experiment import ROOT, Outcome
from tests.ha.fleet import Fleet
from tests.ha.load import Record
from tests.ha.scenarios import SCENARIOS, Scenario, run

DOCUMENT = ROOT / "docs" / "high-availability.md"
PICTURE = ROOT / "docs" / "images" / "head-killed.svg"


class Board:
    """The table on the terminal: what was played, and the scenario in progress with its last event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: list[tuple[Scenario, Outcome]] = []
        self.current = ""
        self.event = ""

    def __rich__(self) -> Table:
        table = Table(*report.COLUMNS, title="high availability", expand=True)
        for scenario, outcome in self._done:
            style = "red" if outcome.findings else "green"
            table.add_row(*report.cells(scenario, outcome), style=style)
        if self.current:
            table.add_row(self.current, self.event, style="yellow")
        return table

    def say(self, event: str) -> None:
        """Show an event of the scenario in progress."""
        self.event = event
        if not self._console.is_terminal:
            self._console.print(f"{time.strftime('%H:%M:%S')} {self.current}: {event}", highlight=False)

    def done(self, scenario: Scenario, outcome: Outcome) -> None:
        """Move the scenario in progress into the table."""
        self._done.append((scenario, outcome))
        for finding in outcome.findings:
            self.say(f"FINDING {finding}")
        self.say("done: " + ", ".join(report.cells(scenario, outcome)[1:]))
        self.current = ""


def main() -> int:
    """Play; the exit code is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios, and play none")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may be given again")
    parser.add_argument("--one-host", action="store_true", help="no namespaces, even where they are possible")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="what clients reported, and logs; with --only, of a run before",
    )
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:<26} {s.play.__doc__}" for name, s in SCENARIOS.items()))
        return 0
    if unknown := set(args.only) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; --list names them")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing stays behind
    out = args.out or Path(tempfile.mkdtemp(prefix="chaos-"))
    return _play(args.only or list(SCENARIOS), out, one_host=args.one_host)


def _play(names: list[str], out: Path, *, one_host: bool) -> int:
    console = Console()
    fleet = Fleet(out, separate_hosts=False if one_host else None)
    board = Board(console)
    played: dict[str, Outcome] = {}
    console.print(f"logs and requests: {out}")
    try:
        with Live(board, console=console, refresh_per_second=2):
            for name in names:
                scenario = SCENARIOS[name]
                if scenario.needs_separate_hosts and not fleet.separate_hosts:
                    console.print(f"{name}: needs root on Linux, left out", style="yellow")
                    continue
                board.current = name
                played[name] = run(scenario, fleet, _directory(out, name), board.say)
                (_directory(out, name) / "outcome.json").write_text(json.dumps(asdict(played[name])))
                board.done(scenario, played[name])
    finally:
        fleet.close()
    every = {name: played.get(name) or _of_a_run_before(out, name) for name in SCENARIOS}
    all_played = {name: outcome for name, outcome in every.items() if outcome}
    if set(all_played) == set(SCENARIOS):
        report.write_document(DOCUMENT, all_played, separate_hosts=fleet.separate_hosts)
        report.draw(PICTURE, all_played["head killed"], all_played["head killed, no store"])
        console.print(f"wrote {os.path.relpath(DOCUMENT)} and {os.path.relpath(PICTURE)}")
    broken = [name for name, outcome in played.items() if outcome.findings]
    if broken:
        console.print(f"promises broken: {', '.join(broken)}", style="red")
    return 1 if broken else 0


def _directory(out: Path, name: str) -> Path:
    return out / name.replace(" ", "-").replace(",", "")


def _of_a_run_before(out: Path, name: str) -> Outcome | None:
    file = _directory(out, name) / "outcome.json"
    if not file.exists():
        return None
    saved = json.loads(file.read_text())
    saved["records"] = [Record(**record) for record in saved["records"]]
    saved["marks"] = [(when, what) for when, what in saved["marks"]]
    return Outcome(**saved)


if __name__ == "__main__":
    sys.exit(main())
