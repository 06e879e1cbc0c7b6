"""A runner whose every step takes the same time, so that only what is around it differs.

As with transformers-neuronx, a prefill is of one prompt. If one of eight took as long, clients that begin
together would get their slots for an eighth of the price of others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tokenizers import Tokenizer

from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled
from serve_apps.llm.slot_engine import SlotEngine

STEP_S = 0.010
_SLOTS = 8
_MAX_LEN = 256


class PacedRunner:
    """Answers each prompt with itself, one token every `STEP_S`, and sleeps meanwhile."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(
            slots=_SLOTS,
            max_len=_MAX_LEN,
            max_prompt=_MAX_LEN - 1,
            prefill_rows=1,
            prefill_tokens=_MAX_LEN,
            sampling="host",
        )
        self._prompts: dict[int, Sequence[int]] = {}

    def load(self) -> None:
        """See `Runner`."""

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """See `Runner`."""
        self._pace()
        self._prompts.update((item.slot, item.ids) for item in items)
        return [Sampled(item.ids[0]) for item in items]

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """See `Runner`."""
        self._pace()
        return [Sampled(self._prompts[row.slot][row.position % len(self._prompts[row.slot])]) for row in rows]

    def release(self, slot: int) -> None:
        """See `Runner`."""

    def close(self) -> None:
        """See `Runner`."""

    def _pace(self) -> None:
        time.sleep(STEP_S)


def paced_engine(tokenizer: Tokenizer, stream_interval_s: float = 0.0, max_queue: int = 64) -> SlotEngine:
    """An engine over a paced runner, not started."""
    return SlotEngine(
        PacedRunner(),
        tokenizer,
        eos_ids=(),
        max_queue=max_queue,
        request_timeout_s=600,
        stream_interval_s=stream_interval_s,
    )
