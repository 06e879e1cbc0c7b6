"""From records to figures. Pure, so that every figure can be tested with records made by hand."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.load.cost import CostPerHour
from client.load.record import Record
from client.load.runner import Outcome

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Slo:
    """What a user accepts, milliseconds; None is anything."""

    ttft_ms: float | None = None
    inter_token_ms: float | None = None
    latency_ms: float | None = None

    def met_by(self, record: Record) -> bool:
        """Whether the whole answer came, and in time."""
        measured = (
            (self.ttft_ms, record.ttft_s),
            (self.inter_token_ms, record.inter_token_s),
            (self.latency_ms, record.latency_s),
        )
        return record.ok and all(
            limit is None or value is None or value * 1000 <= limit for limit, value in measured
        )


@dataclass(frozen=True)
class Summary:
    """Figures of the requests that were meant to be sent in the window after the warm-up.

    `*_ms` map mean, p50 to p99 and max to milliseconds, of whole answers only; empty where there are none.
    Rates are a second: `goodput` over the window, the other ones from its start to the last answer.
    `cost_per_million_tokens` is USD per million answer tokens at the stack's least and most; None if the cost
    or the tokens are not known.
    """

    window_s: float
    interrupted: bool
    sent: int
    completed: int
    errors: dict[str, int]
    ttft_ms: dict[str, float]
    inter_token_ms: dict[str, float]
    latency_ms: dict[str, float]
    longest_gap_ms: dict[str, float]
    prompt_tokens: int
    answer_tokens: int
    requests_per_s: float
    answer_tokens_per_s: float
    goodput: float
    goodput_share: float
    cost_per_million_tokens: tuple[float, float] | None
    cost_is_lower_bound: bool
    client_late_ms: dict[str, float]
    client_cpu_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field."""
        return asdict(self)


def counted(records: Sequence[Record], warm_up_s: float) -> list[Record]:
    """The records of the window."""
    return [record for record in records if record.intended_s >= warm_up_s]


def summarise(outcome: Outcome, *, warm_up_s: float, slo: Slo, cost: CostPerHour | None) -> Summary:
    """The figures of a test, finished or interrupted."""
    records = counted(outcome.records, warm_up_s)
    whole = [record for record in records if record.ok]
    window_s = max(0.0, outcome.sent_until_s - warm_up_s)
    ends = [record.done_s for record in whole if record.done_s is not None]
    busy_s = max([window_s, *(end - warm_up_s for end in ends)])
    answer_tokens = sum(record.tokens for record in whole)
    good = sum(slo.met_by(record) for record in records)
    tokens_per_s = answer_tokens / busy_s if busy_s else 0.0
    return Summary(
        window_s=window_s,
        interrupted=outcome.interrupted,
        sent=len(records),
        completed=len(whole),
        errors=dict(Counter(record.error for record in records if record.error).most_common()),
        ttft_ms=_spread([record.ttft_s for record in whole]),
        inter_token_ms=_spread([record.inter_token_s for record in whole]),
        latency_ms=_spread([record.latency_s for record in whole]),
        longest_gap_ms=_spread([record.longest_gap_s for record in whole if record.pieces > 1]),
        prompt_tokens=sum(record.prompt_tokens or 0 for record in whole),
        answer_tokens=answer_tokens,
        requests_per_s=len(whole) / busy_s if busy_s else 0.0,
        answer_tokens_per_s=tokens_per_s,
        goodput=good / window_s if window_s else 0.0,
        goodput_share=good / len(records) if records else 0.0,
        cost_per_million_tokens=cost.per_million(tokens_per_s) if cost and tokens_per_s else None,
        cost_is_lower_bound=cost is not None and cost.is_lower_bound,
        client_late_ms=_spread([record.late_s for record in records]),
        client_cpu_share=outcome.cpu_s / outcome.wall_s if outcome.wall_s else 0.0,
    )


def _spread(seconds: Sequence[float | None]) -> dict[str, float]:
    values = [value * 1000 for value in seconds if value is not None]
    if not values:
        return {}
    # `inclusive` never leaves the range of what was measured.
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    percentiles = {f"p{number}": cuts[number - 1] for number in PERCENTILES}
    return {"mean": statistics.fmean(values), **percentiles, "max": max(values)}
