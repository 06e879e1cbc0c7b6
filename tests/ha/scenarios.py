"""Everything that can happen to a service, and what its clients may notice of it at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from offline.local.errors import LocalRunError
from offline.local.local_service import LocalService
from tests.ha import control_plane, data_plane, load_and_faults
from tests.ha.experiment import Experiment, Load, Outcome
from tests.ha.fleet import Fleet
from tests.ha.service import service


@dataclass(frozen=True)
class Scenario:
    """`promise` is for the table; `play` does it and writes down as findings what breaks the promise."""

    name: str
    promise: str
    play: Callable[[Experiment], None]
    load: Load = field(default_factory=Load)
    service: Callable[[], LocalService] = service
    app: str = "paced"
    store: bool = True
    needs_separate_hosts: bool = False


NOTHING_LOST = "no request lost"
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("head killed", NOTHING_LOST, control_plane.head_killed, load=Load(streams=3)),
        Scenario(
            "head killed, no store", "lost after the restart", control_plane.head_killed_for_good, store=False
        ),
        Scenario(
            "head killed, new address",
            NOTHING_LOST,
            control_plane.head_moved,
            needs_separate_hosts=True,
        ),
        Scenario("Redis killed", NOTHING_LOST, control_plane.redis_killed),
        Scenario("Redis fails over", NOTHING_LOST, control_plane.redis_fails_over),
        Scenario("head cut off", NOTHING_LOST, control_plane.head_cut_off, needs_separate_hosts=True),
        Scenario("head stands still", NOTHING_LOST, control_plane.head_stands_still),
        Scenario("worker killed", "only what was in flight on it", data_plane.worker_killed),
        Scenario("worker drained", NOTHING_LOST, data_plane.worker_drained),
        Scenario("workers end together", NOTHING_LOST, data_plane.workers_end_together),
        Scenario("raylet lost", "only what was in flight on it", data_plane.raylet_lost),
        Scenario("code rollout", NOTHING_LOST, data_plane.code_rolled_out),
        Scenario("model argument changed", NOTHING_LOST, data_plane.argument_changed),
        Scenario("scaled up and down", NOTHING_LOST, data_plane.scaled),
        Scenario("replica hangs", "only what was in its step", load_and_faults.replica_hangs),
        Scenario("replica stands still", "only streams that had begun", load_and_faults.replica_stands_still),
        Scenario("client never reads", NOTHING_LOST, load_and_faults.client_never_reads),
        Scenario(
            "overload, 10 times",
            "every request answered or refused",
            load_and_faults.overload,
            load=Load(rate=0, clients=8, streams=0, tokens=40),
            service=lambda: service(step_s=0.05),
        ),
        Scenario(
            "head killed, SmolLM2",
            NOTHING_LOST,
            control_plane.head_killed_briefly,
            load=Load(rate=0.5, streams=1, tokens=8, stream_tokens=64),
            service=lambda: service(step_s=None, dtype="float32", slots=4),
            app="SmolLM2-135M",
        ),
    )
}


def run(scenario: Scenario, fleet: Fleet, directory: Path, say: Callable[[str], None]) -> Outcome:
    """Play it on a healthy cluster. `directory` takes what clients report."""
    with fleet.cluster(scenario.service(), store=scenario.store) as cluster:
        with Experiment(cluster, scenario.load, directory, say) as experiment:
            try:
                scenario.play(experiment)
            except LocalRunError as error:
                experiment.outcome.findings.append(str(error))
                fleet.discard()
        return experiment.outcome
