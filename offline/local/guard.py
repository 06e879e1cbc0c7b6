"""Cleans up after a run whose supervisor was killed and could not do it itself.

The supervisor holds the other end of this process's standard input, so the end of input means that the
supervisor is gone, whatever ended it. After a clean end there is no state left and nothing to do.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from offline.local.state import StateDirectory


def main() -> None:
    """Wait for the end of the supervisor, then kill what it left behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory, run_id = StateDirectory(Path(sys.argv[1])), sys.argv[2]
    sys.stdin.buffer.read()
    state = directory.load()
    if state is not None and state.run_id == run_id:
        directory.clean_up(state)


if __name__ == "__main__":
    main()
