"""Scenarios: too many requests, engines that hang or stand still, a client that never reads."""

from __future__ import annotations

import signal
import socket
from urllib.parse import urlparse

import psutil

from offline.ha.cluster import HaCluster
from offline.ha.spares import WORKERS
from tests.ha.experiment import Experiment, Load, memory_mib
from tests.ha.paced_app import HANG
from tests.ha.service import MODEL

_BEFORE_S = 3.0
_AFTER_S = 5.0
_PEAK_S = 15.0
_OVERLOAD_S = 60.0
_OVERLOAD_TIMES = 10
# What the service takes at a time is 2 replicas of 8 slots; this many clients keep all of them busy.
_PEAK_CLIENTS = 16
_MEMORY_GROWTH_MIB = 300


def replica_hangs(run: Experiment) -> None:
    """The runner of one engine hangs; the engine is replaced without anybody's help."""
    run.run_for(_BEFORE_S)
    before = set(run.replicas("Engine"))
    (run.cluster.directory / HANG).touch()
    run.mark("a step hangs")
    _engine_is_replaced(run, before)


def replica_stands_still(run: Experiment) -> None:
    """The process of one engine stops, with its connections open, and never goes on."""
    run.run_for(_BEFORE_S)
    before = set(run.replicas("Engine"))
    _engine_process(run.cluster).suspend()
    run.mark("an engine stands still")
    _engine_is_replaced(run, before)


def client_never_reads(run: Experiment) -> None:
    """It asks for a long stream and reads none of it; its slot is needed for others."""
    run.run_for(_BEFORE_S)
    url = urlparse(run.cluster.url)
    sockets: list[socket.socket] = []
    for _ in range(4):
        opened = socket.socket()
        # As small as can be, so that the answer does not fit into buffers.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        opened.connect((url.hostname, url.port))
        body = f'{{"model": "{MODEL}", "prompt": "Hi", "max_tokens": 2000, "stream": true}}'
        opened.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        sockets.append(opened)
    run.mark("4 clients stop reading")
    before = memory_mib(run.cluster)
    run.run_for(30)
    run.outcome.figures["memory"] = f"{memory_mib(run.cluster) - before:+.0f} MiB"
    for opened in sockets:
        opened.close()
    run.expect_nothing_lost()


def overload(run: Experiment) -> None:
    """First as many clients as fill the slots, then ten times as many, who come back at once."""
    fill = run.clients(Load(rate=0, clients=_PEAK_CLIENTS - 8, streams=0, tokens=40))
    run.run_for(_BEFORE_S)
    run.mark("slots are full")
    run.run_for(_PEAK_S)
    run.mark("overload begins")
    before = memory_mib(run.cluster)
    clients = _PEAK_CLIENTS * (_OVERLOAD_TIMES - 1)
    crowd = run.clients(Load(rate=0, clients=clients, streams=0, tokens=40))
    run.run_for(_OVERLOAD_S)
    run.mark("overload ends")
    grown = memory_mib(run.cluster) - before
    for program in (crowd, fill):
        program.send_signal(signal.SIGTERM)
        program.wait(timeout=120)
    outcome = run.refresh()
    peak = _answers_per_s(run, outcome.at("slots are full"), outcome.at("overload begins"))
    under = _answers_per_s(run, outcome.at("overload begins") + 5, outcome.at("overload ends"))
    outcome.figures["throughput"] = f"{under / peak:.0%} of peak"
    outcome.figures["memory"] = f"{grown:+.0f} MiB"
    refused = outcome.of("unary", "refused")
    outcome.expect(bool(refused), "nothing was refused, so this was no overload")
    outcome.expect(grown < _MEMORY_GROWTH_MIB, f"memory grew by {grown:.0f} MiB")
    run.expect_nothing_lost()


def _answers_per_s(run: Experiment, begin: float, end: float) -> float:
    answered = [r for r in run.outcome.of("unary", "ok") if begin <= r.ended < end]
    return len(answered) / (end - begin)


def _engine_process(cluster: HaCluster) -> psutil.Process:
    processes = (psutil.Process(pid) for worker in WORKERS for pid in cluster.processes(worker))
    return next(process for process in processes if f":{MODEL}:Engine" in " ".join(process.cmdline()))


def _engine_is_replaced(run: Experiment, before: set[str]) -> None:
    took = run.wait(lambda: len(before - set(run.replicas("Engine"))) >= 1, "broken engine is gone")
    run.outcome.figures["noticed after"] = f"{took:.0f} s"
    run.wait(lambda: len(run.replicas("Engine")) == 2, "second engine runs")
    run.run_for(_AFTER_S)
    lost = run.end_load().lost
    broken = [record for record in lost if record.kind == "stream" and record.error]
    others = [record for record in lost if record not in broken]
    run.outcome.figures["streams ended with an error"] = str(len(broken))
    run.outcome.expect(not others, f"{len(others)} requests were lost: {others[:2]}")
    run.outcome.expect(len(broken) <= 2, f"{len(broken)} streams were broken, only 2 ran at a time")
