"""Show what `make test-cluster` measured last; with --page, write it into the documentation."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console

from tests.cluster import report
from tests.cluster.load import Row


def main() -> int:
    """Show, and write if asked to; the exit code is 1 where nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--page", action="store_true", help=f"rewrite the table of {report.DOCUMENT.name}")
    options = parser.parse_args()
    if not report.RESULTS.exists():
        print(f"{report.RESULTS} does not exist; `make test-cluster` writes it", file=sys.stderr)
        return 1
    results = json.loads(report.RESULTS.read_text())
    Console().print(report.table([Row(**row) for row in results["rows"]]))
    if options.page:
        report.write_document(report.DOCUMENT, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
