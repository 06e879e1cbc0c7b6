"""The promise of the project: a head may die, and no client notices. And the proof that the test can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ha.experiment import Outcome
from tests.ha.fleet import Fleet
from tests.ha.scenarios import SCENARIOS, run

pytestmark = pytest.mark.faults


def play(name: str, fleet: Fleet, directory: Path) -> Outcome:
    outcome = run(SCENARIOS[name], fleet, directory, print)
    assert outcome.findings == []
    return outcome


def test_a_head_that_is_gone_for_a_minute_costs_no_request(fleet: Fleet, tmp_path: Path) -> None:
    outcome = play("head killed", fleet, tmp_path)
    unary, streams = outcome.of("unary"), outcome.of("stream")
    assert len(unary) >= 1000
    assert len(streams) >= 20
    assert {record.outcome for record in unary + streams} == {"ok"}
    assert outcome.at("head starts") - outcome.at("head killed") >= 60
    # It was the death of the head that the clients did not notice, not its absence from the experiment.
    down = [r for r in unary if outcome.at("head killed") < r.began < outcome.at("head starts")]
    after = [r for r in unary if r.began > outcome.at("head starts")]
    assert len(down) >= 500
    assert len(after) >= 100


def test_without_a_store_the_same_death_costs_requests_after_the_restart(
    fleet: Fleet, tmp_path: Path
) -> None:
    outcome = play("head killed, no store", fleet, tmp_path)
    restarted = outcome.at("head starts")
    assert sum(record.ended > restarted for record in outcome.lost) >= 50
