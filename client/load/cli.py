"""`load`: an open-loop load test of one model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from client.connection import add_connection_options, connection_of
from client.errors import ClientError
from client.load.cost import cost_of
from client.load.report import print_report, warnings
from client.load.runner import run
from client.load.summary import Slo, Summary, counted, summarise
from client.load.workload import length, plan

_INTERRUPTED = 130
_DEFAULT = "(default: %(default)s)"


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add everything that `load` takes."""
    add_connection_options(parser)
    _add_workload_options(parser)
    _add_length_options(parser)
    _add_goal_options(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures as JSON; - is the standard output"
    )
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="save plots of the distributions and of the run, as PNG"
    )


def _add_workload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        type=_positive,
        default=1.0,
        metavar="R",
        help=f"requests sent a second, on average {_DEFAULT}",
    )
    for name, type_, seconds, what in (
        ("warm-up", _not_negative, 5.0, "seconds at the start that are not counted"),
        ("duration", _positive, 60.0, "seconds that are counted"),
        ("drain", _not_negative, 60.0, "seconds to wait for the last answers"),
    ):
        parser.add_argument(f"--{name}", type=type_, default=seconds, metavar="S", help=f"{what} {_DEFAULT}")


def _add_length_options(parser: argparse.ArgumentParser) -> None:
    for name, what in (("prompt", "a prompt"), ("answer", "an answer, at most")):
        parser.add_argument(
            f"--{name}-tokens",
            type=length,
            default="128",
            metavar="LENGTH",
            help=f"length of {what}, in tokens: N, uniform:LOW:HIGH, normal:MEAN:DEVIATION or "
            f"exponential:MEAN {_DEFAULT}",
        )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help=f"chooses the prompts and their times; the same seed gives the same ones {_DEFAULT}",
    )


def _add_goal_options(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("ttft", "until the first token"),
        ("inter-token", "between two tokens, on average"),
        ("latency", "until the whole answer"),
    ):
        parser.add_argument(
            f"--slo-{name}-ms",
            type=_positive,
            metavar="MS",
            help=f"longest time {what}, milliseconds; goodput counts the answers that keep it",
        )
    cost = parser.add_mutually_exclusive_group()
    cost.add_argument(
        "--cost-per-hour",
        type=_positive,
        metavar="USD",
        help="what the service costs an hour, to print the cost of a million tokens",
    )
    cost.add_argument("--stack", metavar="NAME", help="take that cost from this stack's placement")
    cost.add_argument("--stack-file", type=Path, metavar="FILE", help="take that cost from this stack file")


def load(options: argparse.Namespace) -> int:
    """Run the test and report; returns the exit code. Raises `ClientError` before anything is sent."""
    connection = connection_of(options)
    cost = cost_of(options)
    model = connection.model(options.model)
    console = Console(stderr=True)
    until_s = options.warm_up + options.duration
    console.print(
        f"{model} at {connection.base_url}: {options.rate:g} requests/s for {options.warm_up:g} + "
        f"{options.duration:g} s, prompts {options.prompt_tokens.text}, answers {options.answer_tokens.text} "
        f"tokens, seed {options.seed}",
        highlight=False,
    )
    requests = plan(
        rate=options.rate,
        until_s=until_s,
        prompt=options.prompt_tokens,
        answer=options.answer_tokens,
        seed=options.seed,
    )
    with console.status("starting") as status:
        outcome = run(
            connection,
            model,
            requests,
            until_s=until_s,
            drain_s=options.drain,
            progress=lambda at_s, sent, flying: status.update(
                f"{at_s:.0f} of {until_s:g} s, {sent} sent, {flying} in flight"
            ),
        )
    slo = Slo(options.slo_ttft_ms, options.slo_inter_token_ms, options.slo_latency_ms)
    summary = summarise(outcome, warm_up_s=options.warm_up, slo=slo, cost=cost)
    print_report(summary, Console(stderr=options.json is not None and str(options.json) == "-"))
    if options.json:
        _write_json(options, summary, model)
    if options.plots:
        from client.load.plots import save_plots

        for file in save_plots(counted(outcome.records, options.warm_up), options.plots):
            console.print(f"wrote {file}", highlight=False)
    return _INTERRUPTED if summary.interrupted else 0


def _write_json(options: argparse.Namespace, summary: Summary, model: str) -> None:
    settings = {
        "model": model,
        "rate": options.rate,
        "warm_up_s": options.warm_up,
        "duration_s": options.duration,
        "prompt_tokens": options.prompt_tokens.text,
        "answer_tokens": options.answer_tokens.text,
        "seed": options.seed,
    }
    report = {"settings": settings, **summary.to_json(), "warnings": list(warnings(summary))}
    text = json.dumps(report, indent=2) + "\n"
    if str(options.json) == "-":
        sys.stdout.write(text)
        return
    try:
        options.json.write_text(text)
    except OSError as error:
        raise ClientError(f"--json {options.json}: {error.strerror}") from None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not possible; it must be greater than 0")
    return value


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)
