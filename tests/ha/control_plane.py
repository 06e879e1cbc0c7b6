"""Scenarios: the head, its store, and the network between head and workers."""

from __future__ import annotations

from collections.abc import Callable

from offline.ha.store import PRIMARY, REPLICA
from offline.local.errors import LocalRunError
from offline.local.ray_cluster import HEAD
from tests.ha.experiment import Experiment
from tests.ha.service import with_changes

DOWN_S = 60.0
_BEFORE_S = 3.0
_AFTER_S = 5.0
# Shorter than the time after which a head gives up workers that do not answer.
_INTERRUPTION_S = 30.0


def head_killed(run: Experiment) -> None:
    """Dead for a minute, then back; after it a redeploy and a scale-up."""
    _kill_head(run, DOWN_S)
    _start_head(run)
    run.recover()
    _changes_work(run)
    run.wait(lambda: _many_answers(run), "a thousand requests and twenty streams")
    run.expect_nothing_lost()


def head_killed_briefly(run: Experiment) -> None:
    """As `head_killed`, with a real model and less of everything."""
    _kill_head(run, 20)
    _start_head(run)
    _settle(run)


def head_killed_for_good(run: Experiment) -> None:
    """Without a store: what the new head costs. The opposite of the other scenarios' promise."""
    _kill_head(run, 10)
    lost_before = len(run.refresh().lost)
    _start_head(run)
    # A worker aborts when it meets a head that does not know it; pods would be started again.
    began = run.outcome.at("head starts")
    run.wait(lambda: len(run.outcome.lost) - lost_before >= 50, "clients notice", timeout_s=90)
    run.run_for(15)
    run.outcome.figures["lost while the head was down"] = str(lost_before)
    after = [record for record in run.outcome.lost if record.ended > began]
    run.outcome.expect(len(after) >= 50, "no request was lost; the scenario cannot show a loss")


def head_moved(run: Experiment) -> None:
    """The new head has another address, as a new pod has; workers know it by its name."""
    _kill_head(run, 15)
    run.cluster.move_head()
    run.cluster.start(HEAD)
    run.mark("head starts elsewhere")
    _settle(run)


def head_stands_still(run: Experiment) -> None:
    """Its processes are stopped for half a minute, with their connections open."""
    _interrupt(run, run.cluster.pause, "head stopped", run.cluster.resume, "head goes on")


def head_cut_off(run: Experiment) -> None:
    """Not a packet between head and workers for half a minute; both sides live."""
    _interrupt(run, run.cluster.partition, "head cut off", run.cluster.heal, "network back")


def redis_killed(run: Experiment) -> None:
    """The head dies of it and cannot start again before Redis is back."""
    run.run_for(_BEFORE_S)
    run.cluster.kill(REPLICA)
    run.cluster.kill(PRIMARY)
    run.mark("Redis killed")
    run.run_for(DOWN_S)
    run.cluster.start(PRIMARY)
    run.cluster.start(REPLICA)
    run.mark("Redis starts")
    run.recover()
    _changes_work(run)
    run.expect_nothing_lost()


def redis_fails_over(run: Experiment) -> None:
    """The primary dies, and its replica takes its place at the same address."""
    store = run.cluster.store
    if store is None:
        raise LocalRunError("this cluster has no store")
    run.run_for(_BEFORE_S)
    run.cluster.kill(PRIMARY)
    run.mark("Redis' primary killed")
    run.run_for(5)
    store.promote_replica()
    run.mark("replica takes over")
    run.run_for(_AFTER_S)
    run.recover()
    _changes_work(run)
    run.expect_nothing_lost()


def _many_answers(run: Experiment) -> bool:
    """Whether the experiment says something; on a fast machine everything else is over sooner."""
    return len(run.outcome.of("unary")) >= 1000 and len(run.outcome.of("stream")) >= 20


def _kill_head(run: Experiment, down_s: float) -> None:
    run.run_for(_BEFORE_S)
    run.cluster.kill(HEAD)
    run.mark("head killed")
    run.run_for(down_s)


def _interrupt(
    run: Experiment, begin: Callable[[str], None], begun: str, end: Callable[[str], None], ended: str
) -> None:
    """Shorter than what makes a head give its workers up: nothing may come of it."""
    run.run_for(_BEFORE_S)
    begin(HEAD)
    run.mark(begun)
    run.run_for(_INTERRUPTION_S)
    end(HEAD)
    run.mark(ended)
    _settle(run)


def _start_head(run: Experiment) -> None:
    run.cluster.start(HEAD)
    run.mark("head starts")


def _settle(run: Experiment) -> None:
    """Everything is back, a while goes by, and no client has noticed."""
    run.recover()
    run.run_for(_AFTER_S)
    run.expect_nothing_lost()


def _changes_work(run: Experiment) -> None:
    """A redeploy in place, and one more replica of the engine, as proof of a working control plane."""
    config = run.cluster.service.serve_config
    releases = with_changes(config, Api={"user_config": {"release": "after"}}, Engine={"num_replicas": 3})
    run.cluster.deploy(releases)
    run.mark("redeployed")
    took = run.wait(lambda: len(run.replicas("Engine")) == 3, "third engine runs")
    run.outcome.figures["scale-up"] = f"{took:.0f} s"
    run.run_for(_AFTER_S)
    run.cluster.deploy(config)
