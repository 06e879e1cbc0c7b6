"""The figures for people: a table, and where to look first."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from client.load.summary import Summary

_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
# A client that sends this late measures itself.
_LATE_MS = 20.0
_CPU_SHARE = 0.85


def print_report(summary: Summary, console: Console) -> None:
    """Print the table, the rates and the warnings."""
    if summary.interrupted:
        console.print("interrupted: this is what there was until then", style="yellow")
    console.print(_latencies(summary))
    for name, value in _rates(summary):
        console.print(f"  {name:<26} {value}", highlight=False)
    for warning in warnings(summary):
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def warnings(summary: Summary) -> Iterator[str]:
    """What makes the figures doubtful."""
    if not summary.sent:
        yield "no request was meant for the window after the warm-up; raise --duration or --rate"
    if summary.client_late_ms.get("p99", 0.0) > _LATE_MS or summary.client_cpu_share > _CPU_SHARE:
        yield (
            f"this client was late itself (p99 {summary.client_late_ms.get('p99', 0.0):.1f} ms, "
            f"{summary.client_cpu_share:.0%} of a core); run it on another machine, or lower --rate"
        )
    if unfinished := summary.errors.get("unfinished", 0):
        yield f"{unfinished} answers had not come when the test ended; the service takes less than --rate"


def _latencies(summary: Summary) -> Table:
    table = Table(title="milliseconds from the time a request was meant to be sent", title_justify="left")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    rows = {
        "time to first token": summary.ttft_ms,
        "between tokens": summary.inter_token_ms,
        "longest pause in an answer": summary.longest_gap_ms,
        "whole answer": summary.latency_ms,
        "sent late by this client": summary.client_late_ms,
    }
    for name, spread in rows.items():
        table.add_row(name, *(f"{spread[column]:.1f}" if spread else "-" for column in _COLUMNS))
    return table


def _rates(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "requests", f"{summary.sent} in {summary.window_s:.1f} s, {summary.completed} answered"
    for error, count in summary.errors.items():
        yield f"  {error}", str(count)
    yield "answers a second", f"{summary.requests_per_s:.2f}"
    yield "answer tokens a second", f"{summary.answer_tokens_per_s:.1f}"
    yield "tokens", f"{summary.prompt_tokens} in prompts, {summary.answer_tokens} in answers"
    yield "goodput", f"{summary.goodput:.2f} a second, {summary.goodput_share:.1%} of all within the limits"
    if summary.cost_per_million_tokens:
        least, most = summary.cost_per_million_tokens
        amount = (
            f"{least:.2f}" if least == most else f"{least:.2f} at replicas.min, {most:.2f} at replicas.max"
        )
        bound = "more than " if summary.cost_is_lower_bound else ""
        yield "USD per million tokens", f"{bound}{amount}"
    yield "this client", f"{summary.client_cpu_share:.0%} of a CPU core"
