"""A saturated replica computes for requests, not for empty slots."""

from __future__ import annotations

import pytest

from benchmarks.slot_occupancy import occupancy


@pytest.mark.parametrize("slots", [2, 8, 32])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_with_64_token_answers_nearly_every_row_carries_a_request(slots: int, spread: float) -> None:
    assert occupancy(slots, 64, spread=spread) >= 0.95


def test_answers_shorter_than_the_slots_cannot_fill_them() -> None:
    """One prompt is prefilled between two decodes, so as many answers run as they have decodes."""
    assert occupancy(32, 16) == pytest.approx(15 / 32, abs=0.02)
