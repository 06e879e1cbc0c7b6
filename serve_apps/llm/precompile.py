"""Compiles the graphs of a service before its replicas need them, and exits.

`python -m serve_apps.llm.precompile ARGS.json` takes the arguments of `build_app` and builds the runner as
the engine does, so it fills the cache at `NEURON_COMPILE_CACHE_URL` with what a replica looks for there. It
needs the Neuron packages, but no NeuronCore.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from serve_apps.llm.args import LlmArgs
from serve_apps.llm.factory import EngineConfigError, compile_graphs
from serve_apps.llm.runners import UnsupportedModelError
from serve_apps.llm.runners.neuronx_cache import CACHE_URL_ENV, CompileCache
from serve_apps.model_files import ModelError
from serve_apps.neuron_library import NeuronLibraryError

# Exit codes. After a refusal another try would end the same way; whether one more time is worth it after the
# deadline is for whoever set it.
FAILED = 1
REFUSED = 2
OUT_OF_TIME = 3
_REFUSALS = (ValidationError, EngineConfigError, UnsupportedModelError, NeuronLibraryError)


def main(arguments: list[str] | None = None) -> int:
    """Fill the compile cache; the exit code is 0 or one of those above, and the last line says why."""
    parser = argparse.ArgumentParser(prog="python -m serve_apps.llm.precompile", description=__doc__)
    parser.add_argument("args_file", type=Path, help="JSON file with the arguments of the llm app")
    parser.add_argument("--timeout-s", type=int, default=0, help="longest time, seconds; 0: none")
    chosen = parser.parse_args(arguments)
    _end_after(chosen.timeout_s)
    began = time.monotonic()
    try:
        compile_graphs(LlmArgs.model_validate_json(chosen.args_file.read_text(encoding="utf-8")))
    except _REFUSALS as error:
        return _said(f"{error}", REFUSED)
    except ModelError as error:
        return _said(f"{error}", FAILED)
    except Exception as error:
        logging.getLogger(__name__).exception("compiling failed")
        return _said(
            f"{type(error).__name__}: {error}. A compilation that failed is kept in the cache: delete its "
            "MODULE_ folder there before the next try",
            FAILED,
        )
    finally:
        signal.alarm(0)
    cache = CompileCache()
    if cache.graphs() == set():
        return _said(f"{cache.url} holds no graphs; may this pod write to {CACHE_URL_ENV}?", FAILED)
    print(f"precompiled in {time.monotonic() - began:.0f} s; the graphs are in {cache.url}", flush=True)
    return 0


def _said(reason: str, code: int) -> int:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    return code


def _end_after(timeout_s: int) -> None:
    """End this process, whatever it does, after a time; 0 is for ever."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        _said(
            f"not compiled within {timeout_s} s; what is compiled stays in the cache: deploy again, or raise "
            "startTimeoutSeconds",
            OUT_OF_TIME,
        )
        # Not an exception: the library would wait for its compilers before it lets one through.
        os._exit(OUT_OF_TIME)

    signal.signal(signal.SIGALRM, end)
    signal.alarm(timeout_s)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sys.exit(main())
