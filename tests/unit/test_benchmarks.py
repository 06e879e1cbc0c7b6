"""How the benchmarks count and report; what they measure is no test's affair."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.workload import Load, Stream, alternate, median_of_ratios, percentile, prompts, run_load


def test_the_prompts_are_the_same_in_every_run() -> None:
    assert prompts(40)[:3] == prompts(3)
    assert all(20 <= len(prompt) <= 100 for prompt in prompts(40))


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (95, 4), (100, 4), (1, 1)])
def test_a_percentile_is_one_of_the_values(percent: int, expected: int) -> None:
    assert percentile([4, 2, 1, 3], percent) == expected


def test_ratios_are_taken_within_an_alternation() -> None:
    # The machine was ten times slower in the second one; the median of all figures would say otherwise.
    assert median_of_ratios([100, 10, 100], [50, 5, 25]) == 2


async def test_everybody_is_measured_equally_often_and_begins_in_turn() -> None:
    order: list[str] = []

    async def measure(name: str) -> Load:
        order.append(name)
        return Load(1, [])

    loads = await alternate(["a", "b"], 2, measure)
    assert order == ["a", "b", "b", "a"]
    assert {name: len(each) for name, each in loads.items()} == {"a": 2, "b": 2}


async def test_a_closed_loop_asks_once_the_answer_before_is_complete() -> None:
    running = most = 0

    async def ask(prompt: Sequence[int]) -> AsyncIterator[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield 3
        yield 2
        running -= 1

    load = await run_load(ask, clients=4, arrival="closed loop")
    assert most <= 4
    assert [stream.tokens for stream in load.streams] == [5] * 8


def test_a_load_reports_rate_and_times_to_first_and_last_token() -> None:
    load = Load(2.0, [Stream(6, [0.5, 1.0]), Stream(4, [1.0, 2.0])])
    summary = load.summary()
    assert (summary["tokens_per_s"], summary["ttft_p50_s"], summary["latency_p95_s"]) == (5, 0.5, 2.0)


def test_the_page_shows_what_was_measured_and_says_what_was_not() -> None:
    machine = dict.fromkeys(("cpu", "instructions", "torch", "transformers", "ray", "model", "commit"), "x")
    results: dict[str, Any] = {
        "runs": {
            "graph": machine
            | {"cpus": 2, "memory_gib": 8, "date": "2026-11-01", "load_before": 0.5}
            | {"settings": {"threads": 2, "alternations": 5}}
        },
        "scheduler": [],
        "graph": [{"services": 10, "resources": 109, "median_s": 4.26, "fastest_s": 4.1}],
    }
    text = report.page(results)
    assert "| 10 | 109 | 4.3 | 4.1 |" in text
    assert "5 alternations" in text
    assert "were not recorded" in text  # of the scheduler's
    assert "Not measured." in text
    assert not re.search(r"\{\w+\}", text)


def test_an_unknown_part_is_refused_with_the_ones_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["everything"])
    assert exit_.value.code == 2
    assert "throughput" in capsys.readouterr().err
