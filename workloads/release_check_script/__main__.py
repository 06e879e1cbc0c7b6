"""Exit code 0 if the release answers, 1 if not: then the reason is the last line, and stands alone in the
container's termination message, which `pulumi up` shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .check import Check, ReleaseError, read_expected


def main(env: dict[str, str]) -> int:
    """Run the check that the files beside this one and the environment describe."""
    expected = read_expected(Path(env["EXPECTED"]))
    check = Check(expected, env)
    try:
        print(check.run(), flush=True)
    except ReleaseError as error:
        sentence = f"{check.name} release {check.release}: {error}"
        if error.report:
            print(error.report, flush=True)
        print(sentence, file=sys.stderr, flush=True)
        _leave(sentence, Path(env.get("TERMINATION_LOG", "/dev/termination-log")))
        return 1
    return 0


def _leave(sentence: str, termination_log: Path) -> None:
    try:
        termination_log.write_text(sentence, encoding="utf-8")
    except OSError as error:
        # Kubernetes then shows the end of the log instead.
        print(f"{termination_log} cannot be written: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
