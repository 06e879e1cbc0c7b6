"""Runs a project's `__main__.py` under the recorder; `python -m offline.program` is one evaluation.

An evaluation has an interpreter of its own: the SDK keeps its settings in process-wide variables, and two
revisions of a project have modules of the same names. Reads an `offline.recorder` request as JSON from
standard input and writes one JSON object to standard output: `{"graph": ...}`, `{"refused": MESSAGE}` for
errors that the program raises for its user, or `{"broken": TRACEBACK}`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi.runtime

from offline.graph import Graph
from offline.monitor import RecordingEngine, RecordingMonitor


class _InlineExecutor(ThreadPoolExecutor):
    """Runs what it is given at once, on the event loop's own thread.

    The SDK sends its requests from worker threads, because an engine takes its time. The recorder does not,
    and without threads a run costs less and is the same every time.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def evaluate(
    project_dir: Path,
    *,
    project: str,
    stack: str,
    config: dict[str, str],
    secret_keys: list[str],
    unknowns: bool,
) -> Graph:
    """Run the program in this process, once. Raises whatever the program raises."""
    monitor = RecordingMonitor(project, stack, unknowns=unknowns)
    engine = RecordingEngine()
    pulumi.runtime.set_all_config(config, secret_keys)
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=project,
            stack=stack,
            monitor=monitor,
            engine=engine,
            dry_run=unknowns,
            organization="organization",
            root_directory=str(project_dir),
        )
    )
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(_InlineExecutor())
    try:
        made = loop.run_until_complete(_run(str(project_dir / "__main__.py")))
    finally:
        loop.close()
    return monitor.graph(made, engine.diagnostics)


async def _run(program: str) -> list[str]:
    """Run the program; the URNs of its resources in the order in which it makes them."""
    made: list[pulumi.Resource] = []

    def note(arguments: pulumi.ResourceTransformationArgs) -> None:
        made.append(arguments.resource)

    def run_module() -> None:
        made.append(cast("pulumi.Resource", pulumi.runtime.get_root_resource()))
        pulumi.runtime.register_stack_transformation(note)
        sys.argv = [program]
        runpy.run_path(program, run_name="__main__")

    await pulumi.runtime.run_in_stack(run_module)
    return [cast("str", await resource.urn.future()) for resource in made]


def _main() -> None:
    # A process this short-lived spends more on looking for garbage than it ever frees.
    gc.disable()
    # The SDK leaves futures behind when a program fails; their complaints would bury the reason.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    request = json.load(sys.stdin)
    # What the program prints must not end up in the answer.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    project_dir = Path(request.pop("project_dir"))
    os.chdir(project_dir)
    # The tools are this checkout's; everything the program imports by itself is its own project's. So the
    # checkout leaves the path, wherever it stands on it: a module that is missing in the project must not be
    # found here.
    sys.path[:] = [str(project_dir), *(entry for entry in sys.path[1:] if not _is_checkout(entry))]
    with answer:
        json.dump(_answer(project_dir, request), answer)
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking the SDK's modules apart again takes a good half of a second, and nobody needs them any more.
    os._exit(0)


def _is_checkout(entry: str) -> bool:
    return Path(entry).resolve() == Path(__file__).resolve().parent.parent


def _answer(project_dir: Path, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"graph": evaluate(project_dir, **request).to_json()}
    except pulumi.RunError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"broken": _traceback(error, str(project_dir / "__main__.py"))}


def _traceback(error: Exception, program: str) -> str:
    """The traceback from the program's own first frame on; ours and the SDK's above it are of no use."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != program:
        frame = frame.tb_next
    return "".join(traceback.format_exception(error.with_traceback(frame or error.__traceback__)))


if __name__ == "__main__":
    _main()
