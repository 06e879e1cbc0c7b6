"""Everything else that can happen, one scenario a test; `make chaos` plays the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ha.fleet import Fleet
from tests.ha.scenarios import SCENARIOS, run

pytestmark = pytest.mark.slow
QUICK = {"head killed", "head killed, no store"}  # in test_head.py


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in QUICK])
def test_what_happens_costs_no_more_than_promised(name: str, fleet: Fleet, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    if scenario.needs_separate_hosts and not fleet.separate_hosts:
        pytest.skip("needs network namespaces, and these need root on Linux")
    assert run(scenario, fleet, tmp_path, print).findings == []
