"""How an evaluation can fail."""

from __future__ import annotations


class OfflineError(Exception):
    """Something the user can put right: a stack name, a file, a configuration value.

    The message names it and the way out; the command line prints it alone and exits with code 2.
    """


class ProgramError(Exception):
    """The project's program itself is broken. The message is its traceback; the exit code is 1."""
