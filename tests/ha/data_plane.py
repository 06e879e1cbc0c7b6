"""Scenarios: workers and replicas that go, unasked and asked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from offline.ha.spares import WORKERS
from tests.ha.experiment import Experiment
from tests.ha.service import with_changes

_BEFORE_S = 3.0
_AFTER_S = 5.0
_CLOSED_S = 0.1
_VICTIM = WORKERS[0]


def worker_killed(run: Experiment) -> None:
    """Its requests die with it, unless another worker's API had them; a new worker takes its place."""
    run.run_for(_BEFORE_S)
    began = time.time()
    run.cluster.kill(_VICTIM)
    # Looking for its processes takes a moment, and so does the kernel that closes what they had open.
    killed = time.time() + _CLOSED_S
    run.mark("worker killed")
    run.run_for(5)
    _bring_back_worker(run)
    outcome = run.end_load()
    late = [record for record in outcome.lost if record.began > killed]
    outcome.expect(not late, f"{len(late)} requests were lost that began after the kill: {late[:2]}")
    in_flight = [r for r in outcome.records if r.began <= killed and r.ended > began]
    outcome.figures["in flight"] = str(len(in_flight))
    silent = [r for r in outcome.lost if not r.error]
    outcome.expect(not silent, f"{len(silent)} requests ended without a word: {silent[:2]}")


def worker_drained(run: Experiment) -> None:
    """SIGTERM, as Karpenter's drain sends; the pod has its grace period."""
    run.run_for(_BEFORE_S)
    run.mark("worker gets SIGTERM")
    took = run.cluster.drain(_VICTIM)
    run.mark("worker has ended")
    grace = run.cluster.service.worker_grace_s
    run.outcome.figures["drain"] = f"{took:.0f} s of {grace} s grace"
    run.outcome.expect(took < grace, f"the drain took longer than the grace period of {grace} s")
    run.run_for(2)
    _bring_back_worker(run)
    run.expect_nothing_lost()


def workers_end_together(run: Experiment) -> None:
    """SIGTERM for all workers of a service that is deleted, whose head outlives them."""
    run.run_for(_BEFORE_S)
    run.stop_load()
    run.mark("all workers get SIGTERM")
    with ThreadPoolExecutor() as at_once:
        took = max(at_once.map(run.cluster.drain, WORKERS))
    run.mark("all workers have ended")
    drain_s = int(run.cluster.service.worker.env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    run.outcome.figures["drain"] = f"{took:.0f} s of {drain_s} s"
    run.outcome.expect(took < drain_s, f"workers without requests waited for all of their {drain_s} s")
    run.expect_nothing_lost()
    for worker in WORKERS:
        run.cluster.start(worker)
    run.recover()


def raylet_lost(run: Experiment) -> None:
    """Its raylet follows the dashboard agent of a worker, and `ray start --block` stays."""
    run.run_for(_BEFORE_S)
    began = time.time()
    for pid in run.cluster.processes(_VICTIM):
        if psutil.Process(pid).name().startswith("ray::DashboardA"):
            psutil.Process(pid).kill()
    run.mark("dashboard agent killed")
    run.wait(lambda: run.cluster.ray.alive_nodes() == len(WORKERS), "worker is gone")
    gone = time.time() + _CLOSED_S
    run.recover()
    outcome = run.end_load()
    late = [record for record in outcome.lost if record.began > gone or record.ended < began]
    outcome.expect(not late, f"{len(late)} requests were lost that were not on the worker: {late[:2]}")


def code_rolled_out(run: Experiment) -> None:
    """Other code makes every replica of both deployments start again, one at a time."""
    config = run.cluster.service.serve_config
    # Ray counts the runtime environment as part of the code's version.
    _roll_out(run, with_changes(config, env_vars={"NEURON_SERVE_TEST_CODE": "2"}), "Api", "Engine")


def argument_changed(run: Experiment) -> None:
    """Another argument of the model, fewer slots, as a model-setting change in the stack file."""
    _roll_out(run, with_changes(run.cluster.service.serve_config, args={"slots": 4}), "Api", "Engine")


def scaled(run: Experiment) -> None:
    """Two engines, one, two again: the replica that goes ends its streams first."""
    run.run_for(_BEFORE_S)
    for count in (1, 2):
        run.cluster.deploy(with_changes(run.cluster.service.serve_config, Engine={"num_replicas": count}))
        run.wait(lambda count=count: len(run.replicas("Engine")) == count, f"{count} engines run")
        run.run_for(_AFTER_S)
    run.expect_nothing_lost()


def _bring_back_worker(run: Experiment) -> None:
    run.cluster.start(_VICTIM)
    run.mark("worker starts")
    run.recover()
    run.wait(lambda: len(run.replicas("Engine")) == 2, "second engine runs")
    run.run_for(_AFTER_S)


def _roll_out(run: Experiment, config: dict[str, object], *deployments: str) -> None:
    run.run_for(_BEFORE_S)
    before = {name: set(run.replicas(name)) for name in deployments}
    run.cluster.deploy(config)
    run.mark("deployed")

    def replaced() -> bool:
        now = {name: set(run.replicas(name)) for name in deployments}
        return all(len(now[name]) == 2 and not now[name] & before[name] for name in deployments)

    took = run.wait(replaced, "all replicas replaced")
    run.outcome.figures["rollout"] = f"{took:.0f} s"
    run.recover("settled after")
    run.run_for(_AFTER_S)
    run.expect_nothing_lost()
