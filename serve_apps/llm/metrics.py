"""What the app measures, as Ray's metrics: every Ray node exports them for Prometheus (docs/metrics.md).

Ray Serve adds the tags deployment, replica and application to each, Ray itself the prefix `ray_` and, to a
counter, the suffix `_total`. A call of Ray's API takes about 4 µs, as long as the scheduler needs for two
requests in a step, so the engine's thread makes none: it notes what it measured, and `report` passes that
on from the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.serve.metrics import Counter, Gauge, Histogram

from serve_apps.llm.engine import Engine, EngineStats

if TYPE_CHECKING:
    from serve_apps.request_log import RequestRecord  # HTTP, which an engine's replica does without

logger = logging.getLogger(__name__)

PREFIX = "neuron_serve_"
REPORT_PERIOD_S = 1.0

# Upper bounds in seconds. A stream on NeuronCores has a token every 10 ms; a request may take minutes.
_WAITING_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320]
_BETWEEN_TOKENS_S = [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10]
_WHOLE_REQUEST_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]


def _histogram(name: str, about: str, bounds_s: Sequence[float], *tags: str) -> Histogram:
    return Histogram(PREFIX + name, about, boundaries=list(bounds_s), tag_keys=_with_model(tags))


def _counter(name: str, about: str, *tags: str) -> Counter:
    return Counter(PREFIX + name, about, tag_keys=_with_model(tags))


def _with_model(tags: tuple[str, ...]) -> Any:
    return ("model", *tags)  # which Ray calls a tuple of one string


def _gauge(name: str, about: str) -> Gauge:
    return Gauge(PREFIX + name, about, tag_keys=("model",))


class ApiMetrics:
    """Requests as clients see them; one `observe` a request."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._requests = _counter("requests", "Answered requests.", "route", "status", "finish_reason")
        self._seconds = _histogram(
            "request_seconds", "From a request's arrival to its last byte.", _WHOLE_REQUEST_S, "route"
        )

    def observe(self, record: RequestRecord, route: str) -> None:
        """Count a request that has ended."""
        tags = {"model": self._model, "route": route}
        self._seconds.observe(record.seconds, tags)
        self._requests.inc(1, {**tags, "status": str(record.status), "finish_reason": record.outcome})


class EngineMetrics:
    """Slots, queue, tokens and times of one engine."""

    def __init__(self, model: str) -> None:
        self._queue_s = _histogram("queue_seconds", "From submission to a slot.", _WAITING_S)
        self._first_token_s = _histogram(
            "time_to_first_token_seconds", "From submission to the first token.", _WAITING_S
        )
        self._between_tokens_s = _histogram(
            "time_between_tokens_seconds", "Between two tokens of an answer.", _BETWEEN_TOKENS_S
        )
        self._prompt_tokens = _counter("prompt_tokens", "Tokens of prompts that were computed.")
        self._generation_tokens = _counter("generation_tokens", "Tokens of answers.")
        self._steps = _counter("steps", "Prefill and decode steps.")
        self._queued = _gauge("queued_requests", "Requests that wait for a slot.")
        self._slots_in_use = _gauge("slots_in_use", "Slots with a request.")
        self._slots = _gauge("slots", "Slots of the replica.")
        for metric in vars(self).values():
            metric.set_default_tags({"model": model})
        self._counted = EngineStats(slots=0)

    def collect(self, engine: Engine) -> None:
        """Pass on what the engine has done since the last call."""
        now, before = engine.stats(), self._counted
        self._counted = now
        for counter, grown in (
            (self._prompt_tokens, now.prefill_tokens - before.prefill_tokens),
            (self._generation_tokens, now.generated_tokens - before.generated_tokens),
            (self._steps, now.steps - before.steps),
        ):
            if grown:  # Ray's counters refuse zero
                counter.inc(grown)
        self._queued.set(now.queued)
        self._slots_in_use.set(now.slots_in_use)
        self._slots.set(now.slots)
        timings = engine.take_timings()
        for histogram, values in (
            (self._queue_s, timings.queued_s),
            (self._first_token_s, timings.first_token_s),
            (self._between_tokens_s, timings.between_tokens_s),
        ):
            for value in values:
                histogram.observe(value)


async def report(engine: Engine, model: str) -> None:
    """Collect an engine's metrics until cancelled."""
    metrics = EngineMetrics(model)
    while True:
        try:
            metrics.collect(engine)
        except Exception:
            logger.exception("metrics were not collected; the engine goes on without")
        await asyncio.sleep(REPORT_PERIOD_S)
