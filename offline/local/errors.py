"""How a local run can fail after it has started something; `OfflineError` is for before."""


class LocalRunError(Exception):
    """The run cannot go on. The message says what happened and where to look; the exit code is 1."""
