"""The figures of a load test, from records made by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from client.load.cost import CostPerHour
from client.load.record import Record
from client.load.report import print_report, warnings
from client.load.runner import Outcome
from client.load.summary import Slo, Summary, summarise


def answered(at_s: float, *, sent_s: float | None = None, ttft_s: float = 0.1, tokens: int = 11) -> Record:
    """An answer with 10 ms between tokens."""
    record = Record(intended_s=at_s, sent_s=at_s if sent_s is None else sent_s, error=None)
    record.first_s = at_s + ttft_s
    record.last_s = record.done_s = record.first_s + 0.01 * (tokens - 1)
    record.pieces = record.answer_tokens = tokens
    record.prompt_tokens = 5
    return record


def failed(at_s: float, error: str) -> Record:
    return Record(intended_s=at_s, sent_s=at_s, error=error)


def summary(
    *records: Record, until_s: float = 10.0, warm_up_s: float = 0.0, slo: Slo | None = None, **fields: object
) -> Summary:
    cost = fields.pop("cost", None)
    assert cost is None or isinstance(cost, CostPerHour)
    outcome = Outcome(records=list(records), sent_until_s=until_s, wall_s=until_s, cpu_s=1.0)
    return summarise(outcome, warm_up_s=warm_up_s, slo=slo or Slo(), cost=cost)


def test_latencies_count_from_the_intended_time_so_that_a_late_client_or_a_stall_is_not_hidden() -> None:
    late = answered(1.0, sent_s=3.0, ttft_s=2.5)
    figures = summary(late)
    assert figures.ttft_ms["p50"] == pytest.approx(2500)
    assert figures.latency_ms["max"] == pytest.approx(2600)
    assert figures.client_late_ms["max"] == pytest.approx(2000)
    assert any("this client was late itself" in warning for warning in warnings(figures))


def test_the_warm_up_is_not_counted() -> None:
    figures = summary(answered(1.0, ttft_s=9.0), answered(6.0), until_s=15.0, warm_up_s=5.0)
    assert (figures.sent, figures.window_s) == (1, 10.0)
    assert figures.ttft_ms["max"] == pytest.approx(100)


def test_time_between_tokens_is_over_the_tokens_after_the_first() -> None:
    figures = summary(answered(1.0, tokens=11), answered(2.0, tokens=1))
    assert figures.inter_token_ms["mean"] == pytest.approx(10.0)


def test_tokens_are_counted_in_pieces_where_the_api_does_not_say() -> None:
    record = answered(1.0)
    record.answer_tokens, record.pieces = None, 7
    assert summary(record).answer_tokens == 7


def test_rates_count_to_the_last_answer_when_it_comes_after_the_window() -> None:
    figures = summary(answered(1.0, tokens=100), answered(9.0, ttft_s=10.0, tokens=101), until_s=10.0)
    assert figures.answer_tokens_per_s == pytest.approx(201 / 20.0)
    assert figures.requests_per_s == pytest.approx(2 / 20.0)


def test_goodput_counts_whole_answers_within_all_limits() -> None:
    records = [
        answered(1.0),
        answered(2.0, ttft_s=0.4),
        failed(3.0, "HTTP 429 rate_limit_exceeded"),
        answered(4.0, tokens=101),
    ]
    assert summary(*records, slo=Slo(ttft_ms=200)).goodput == pytest.approx(2 / 10)
    figures = summary(*records, slo=Slo(ttft_ms=200, inter_token_ms=20, latency_ms=500))
    assert (figures.goodput, figures.goodput_share) == (pytest.approx(1 / 10), pytest.approx(1 / 4))


def test_errors_are_counted_by_class() -> None:
    figures = summary(failed(1, "timeout"), failed(2, "HTTP 503"), failed(3, "HTTP 503"), answered(4))
    assert figures.errors == {"HTTP 503": 2, "timeout": 1}
    assert (figures.sent, figures.completed) == (4, 1)


def test_percentiles_are_of_what_was_measured() -> None:
    figures = summary(*(answered(at_s / 100, ttft_s=at_s / 1000) for at_s in range(1, 101)))
    assert figures.ttft_ms["p50"] == pytest.approx(50.5)
    assert figures.ttft_ms["p99"] == pytest.approx(99.01)
    assert figures.ttft_ms["max"] == pytest.approx(100)


def test_cost_is_that_of_the_tokens_that_came() -> None:
    # 1000 tokens in 10 s are 0.36 million an hour.
    figures = summary(
        *(answered(1.0, tokens=100) for _ in range(10)), cost=CostPerHour(3.6, 7.2, is_lower_bound=True)
    )
    assert figures.cost_per_million_tokens == (pytest.approx(10.0), pytest.approx(20.0))
    shown = io.StringIO()
    print_report(figures, Console(file=shown, width=120))
    assert "more than 10.00 at replicas.min, 20.00 at replicas.max" in shown.getvalue()


def test_nothing_measured_is_said_and_divides_by_nothing() -> None:
    figures = summary(answered(1.0), until_s=3.0, warm_up_s=5.0, cost=CostPerHour(1, 1))
    assert (figures.sent, figures.goodput, figures.cost_per_million_tokens) == (0, 0.0, None)
    shown = io.StringIO()
    print_report(figures, Console(file=shown, width=120))
    assert "no request was meant for the window" in shown.getvalue()
