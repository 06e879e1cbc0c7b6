"""Results as tables for people, a plot, and the page docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

PAGE = Path("docs/benchmarks.md")
_TEXT = Path(__file__).parent / "page.md"

# Of each part: its title, and the columns that are shown, as (key, heading, format).
_COLUMNS: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "throughput": (
        "Engine against others",
        [
            ("dtype", "dtype", ""),
            ("clients", "clients", ""),
            ("arrival", "arrival", ""),
            ("sampled", "sampled", ""),
            ("who", "who", ""),
            ("tokens_per_s", "tok/s", ".1f"),
            ("ttft_p50_s", "TTFT p50 s", ".2f"),
            ("ttft_p95_s", "TTFT p95 s", ".2f"),
            ("latency_p95_s", "latency p95 s", ".2f"),
            ("throughput_ratio", "ours / theirs, tok/s", ".2f"),
            ("ttft_p95_ratio", "ours / theirs, TTFT p95", ".2f"),
        ],
    ),
    "scheduler": (
        "Share of a step",
        [
            ("dtype", "dtype", ""),
            ("steps", "steps", ""),
            ("runner_ms_per_step", "runner ms/step", ".1f"),
            ("scheduler_us_per_step", "scheduler us/step", ".0f"),
            ("scheduler_share", "scheduler", ".2%"),
            ("engine_share", "all host code", ".2%"),
        ],
    ),
    "stalls": (
        "Time between two tokens of a stream",
        [
            ("dtype", "dtype", ""),
            ("stream", "stream", ""),
            ("gap_p50_ms", "p50 ms", ".0f"),
            ("gap_p99_ms", "p99 ms", ".0f"),
            ("gap_max_ms", "max ms", ".0f"),
        ],
    ),
    "serve": (
        "Through HTTP and Ray Serve, 8 clients",
        [
            ("engine", "engine", ""),
            ("data_plane", "data plane", ""),
            ("interval_ms", "interval ms", ""),
            ("bare_tokens_per_s", "bare tok/s", ".0f"),
            ("tokens_per_s", "tok/s", ".0f"),
            ("ratio", "of bare", ".0%"),
            ("ttft_p95_s", "TTFT p95 s", ".2f"),
            ("cpu_ms_per_token", "CPU ms/token", ""),
        ],
    ),
    "overload": (
        "Overload",
        [
            ("clients", "clients", ""),
            ("tokens_per_s", "tok/s", ".0f"),
            ("throughput_ratio", "of peak", ".0%"),
            ("statuses", "answers by status", ""),
            ("latency_p95_s", "latency p95 s", ".2f"),
            ("memory_growth_mib", "memory growth MiB", ".0f"),
        ],
    ),
    "graph": (
        "offline graph",
        [
            ("services", "services", ""),
            ("resources", "resources", ""),
            ("median_s", "median s", ".1f"),
            ("fastest_s", "fastest s", ".1f"),
        ],
    ),
}


def _cells(row: Mapping[str, Any], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    return [_shown(row.get(key), form) for key, _, form in columns]


def _shown(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_shown(of, '.2f' if isinstance(of, float) else '')}" for key, of in value.items()
        )
    return format(value, form)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """One table for each part that was measured."""
    made: list[Table] = []
    for part, (title, columns) in _COLUMNS.items():
        if part in results:
            table = Table(title=title)
            for _, heading, _ in columns:
                table.add_column(heading)
            for row in results[part]:
                table.add_row(*_cells(row, columns))
            made.append(table)
    return made


def page(results: Mapping[str, Any]) -> str:
    """docs/benchmarks.md: the text of benchmarks/page.md with the tables where it names their parts."""
    text = _TEXT.read_text(encoding="utf-8")
    for part, (_, columns) in _COLUMNS.items():
        if part in results:
            said = f"{_markdown(results[part], columns)}\n\n{_run(results.get('runs', {}).get(part))}"
        else:
            said = "Not measured."
        text = text.replace(f"{{{part}}}", said)
    return text


def _markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, str]]) -> str:
    lines = [[heading for _, heading, _ in columns], ["---"] * len(columns)]
    lines += [_cells(row, columns) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _run(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "*Machine, commit and settings of these figures were not recorded.*"
    settings = run["settings"]
    versions = ", ".join(f"{name} {run[name]}" for name in ("torch", "transformers", "ray"))
    return (
        f"*{run['cpus']} x {run['cpu']} ({run['instructions']}), {run['memory_gib']} GiB; {versions}; model "
        f"{run['model']}; {settings['threads']} threads a step, {settings['alternations']} alternations; "
        f"commit {run['commit']}, {run['date']}; load average before the run {run['load_before']:.1f}.*"
    )


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Tokens/s by contestant, and the share of the bare engine that each data plane keeps."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    panels = [name for name in ("throughput", "serve") if results.get(name)]
    if not panels:
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(7 * len(panels), 5), squeeze=False)
    for axis, name in zip(axes[0], panels, strict=True):
        bars = _bars_of(name, results[name])
        axis.barh([label for label, _ in bars], [value for _, value in bars])
        axis.invert_yaxis()
        axis.set_xlabel("tokens/s" if name == "throughput" else "share of the bare engine's tokens/s")
        axis.set_title(_COLUMNS[name][0])
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _bars_of(part: str, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    if part == "serve":
        return [
            (f"{row['engine']}, {row['data_plane']}, {row['interval_ms']} ms", row["ratio"]) for row in rows
        ]
    return [
        (
            f"{row['who']}, {row['dtype']}, {row['clients']} {row['arrival']}"
            + (", sampled" if row["sampled"] else ""),
            row["tokens_per_s"],
        )
        for row in rows
    ]
