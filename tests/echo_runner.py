"""A runner without a model, for tests of what drives runners."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled


def capabilities(
    *,
    slots: int = 4,
    max_len: int = 64,
    prefill_rows: int = 4,
    prefill_tokens: int = 32,
    max_top_k: int | None = None,
    seed: bool = True,
) -> Capabilities:
    return Capabilities(
        slots=slots,
        max_len=max_len,
        max_prompt=max_len - 1,
        prefill_rows=prefill_rows,
        prefill_tokens=prefill_tokens,
        sampling="host",
        max_top_k=max_top_k,
        seed=seed,
    )


class EchoRunner:
    """Answers each prompt with itself, over and over.

    With `gate`, every step first takes one permit, so a test decides when steps happen. What is put into
    `load_failure` or `step_failure` is raised by the next `load` or step. `calls` lists what was done:
    ("prefill" | "decode" | "release", slots).
    """

    def __init__(
        self,
        limits: Capabilities,
        *,
        gate: threading.Semaphore | None = None,
        load_failure: Exception | None = None,
    ) -> None:
        self.capabilities = limits
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.prompts: dict[int, Sequence[int]] = {}
        self.step_failure: Exception | None = None
        self.closed = False
        self._gate = gate
        self._load_failure = load_failure

    def load(self) -> None:
        if self._load_failure:
            raise self._load_failure

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        self._step("prefill", [item.slot for item in items])
        for item in items:
            self.prompts[item.slot] = item.ids
        return [Sampled(item.ids[0]) for item in items]

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        self._step("decode", [row.slot for row in rows])
        return [self._next(row) for row in rows]

    def release(self, slot: int) -> None:
        self.calls.append(("release", (slot,)))
        del self.prompts[slot]

    def close(self) -> None:
        self.closed = True

    def _step(self, kind: str, slots: Sequence[int]) -> None:
        if self._gate:
            self._gate.acquire()
        if self.step_failure:
            raise self.step_failure
        self.calls.append((kind, tuple(slots)))

    def _next(self, row: Row) -> Sampled:
        prompt = self.prompts[row.slot]
        return Sampled(prompt[(row.position + 1) % len(prompt)])
