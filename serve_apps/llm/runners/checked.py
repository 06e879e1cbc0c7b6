"""A runner that trusts nobody: every rule of the contract, checked at every call.

The rules matter because breaking them on an accelerator corrupts other requests without an error. Tests put
this wrapper between the engine and whatever runner they use.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from serve_apps.llm.runners import Capabilities, Prefill, Row, Runner, Sampled


class ContractError(AssertionError):
    """A caller, or the runner itself, broke a rule of `serve_apps.llm.runners`."""


@dataclass
class _Slot:
    """What the next decode row of a live slot must be."""

    token: int
    position: int


class CheckedRunner:
    """Wraps a runner; raises `ContractError` instead of passing a forbidden call on."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._live: dict[int, _Slot] = {}
        self._thread: int | None = None
        self._loaded = False
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """Those of the wrapped runner."""
        return self._runner.capabilities

    def load(self) -> None:
        """Once, before anything else."""
        _require(not self._loaded, "load was called a second time")
        self._check_thread()
        self._loaded = True
        self._runner.load()

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """Free and distinct slots, within the limits of rows and tokens."""
        self._check_usable("prefill")
        self._check_prefill(items)
        results = self._runner.prefill(items)
        _require(len(results) == len(items), f"prefill of {len(items)} prompts gave {len(results)} tokens")
        for item, result in zip(items, results, strict=True):
            self._live[item.slot] = _Slot(result.token, len(item.ids))
        return results

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """Exactly the live slots, ascending, each where the step before left it."""
        self._check_usable("decode")
        self._check_decode(rows)
        results = self._runner.decode(rows)
        _require(len(results) == len(rows), f"decode of {len(rows)} rows gave {len(results)} tokens")
        for row, result in zip(rows, results, strict=True):
            self._live[row.slot] = _Slot(result.token, row.position + 1)
        return results

    def release(self, slot: int) -> None:
        """A live slot."""
        self._check_usable("release")
        _require(slot in self._live, f"release of slot {slot}, which is not live")
        del self._live[slot]
        self._runner.release(slot)

    def close(self) -> None:
        """Once, after everything else."""
        self._check_usable("close")
        self._closed = True
        self._runner.close()

    def _check_thread(self) -> None:
        current = threading.get_ident()
        self._thread = self._thread or current
        _require(self._thread == current, "a call came from another thread than load")

    def _check_usable(self, call: str) -> None:
        _require(self._loaded, f"{call} was called before load")
        _require(not self._closed, f"{call} was called after close")
        self._check_thread()

    def _check_prefill(self, items: Sequence[Prefill]) -> None:
        limits = self.capabilities
        slots = [item.slot for item in items]
        tokens = sum(len(item.ids) for item in items)
        _require(bool(items), "prefill of nothing")
        _require(
            len(items) <= limits.prefill_rows,
            f"prefill of {len(items)} prompts, the limit is {limits.prefill_rows}",
        )
        _require(
            len(items) == 1 or tokens <= limits.prefill_tokens,
            f"prefill of {tokens} tokens together, the limit is {limits.prefill_tokens}",
        )
        _require(len(set(slots)) == len(slots), f"prefill names a slot twice: {slots}")
        for item in items:
            _require(0 <= item.slot < limits.slots, f"slot {item.slot} is outside 0..{limits.slots - 1}")
            _require(item.slot not in self._live, f"prefill into slot {item.slot}, which is live")
            _require(
                1 <= len(item.ids) <= limits.max_prompt,
                f"prompt of {len(item.ids)} tokens, allowed are 1 to {limits.max_prompt}",
            )

    def _check_decode(self, rows: Sequence[Row]) -> None:
        slots = [row.slot for row in rows]
        _require(bool(rows), "decode of nothing")
        _require(slots == sorted(self._live), f"decode of slots {slots}, live are {sorted(self._live)}")
        for row in rows:
            expected = self._live[row.slot]
            _require(
                row.token == expected.token,
                f"slot {row.slot}: the row's token is not the one that the step before sampled",
            )
            _require(
                row.position == expected.position,
                f"slot {row.slot}: position {row.position}, expected {expected.position}",
            )
            _require(
                row.position < self.capabilities.max_len,
                f"slot {row.slot}: position {row.position} is outside a slot of {self.capabilities.max_len}",
            )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)
