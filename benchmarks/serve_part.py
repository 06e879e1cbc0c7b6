"""Parts `serve` and `overload`: through HTTP and Ray Serve, against the same engine in this process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import psutil

from benchmarks.engines import build
from benchmarks.http_client import RefusedError, asking
from benchmarks.serve_process import Server
from benchmarks.settings import Settings
from benchmarks.workload import Load, Stream, alternate, median_of_ratios, percentile, prompts, read, run_load
from serve_apps.llm.engine import GenerationRequest, TextDelta
from serve_apps.llm.runners import SamplingParams
from serve_apps.llm.slot_engine import SlotEngine
from workloads.ray_cluster import DATA_PLANES

_CLIENTS = 8
_INTERVALS_MS = (0, 20, 50, 100)
_QUICK_INTERVALS_MS = (0, 50)
_STOP_LIMIT_S = 60
_OVERLOAD_FACTOR = 10
_OVERLOAD_S = 10
_BACK_OFF_S = 0.2


async def serve(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """One row for each data plane and interval, paced and with the real model."""
    for dtype in (None, *settings.dtypes[:1]):
        for data_plane in DATA_PLANES:
            for interval in _QUICK_INTERVALS_MS if settings.quick else _INTERVALS_MS:
                server = Server(
                    str(settings.model_dir), _free_port(), data_plane, interval, dtype, settings.threads
                )
                settings.progress(f"serve: {dtype or 'paced'}, {data_plane}, {interval} ms")
                yield await _against_bare(server, settings.alternations)


async def _against_bare(server: Server, alternations: int) -> dict[str, Any]:
    # The bare engine sends every token at once: what the interval saves is part of the comparison.
    bare = build(replace(server, stream_interval_ms=0))
    await bare.start()
    cpu_ms: list[dict[str, float]] = []
    async with _running(server) as (process, url, session):
        over_http = asking(session, url)

        async def measure(name: str) -> Load:
            if name == "bare":
                return await run_load(lambda prompt: _ask_engine(bare, prompt), _CLIENTS, "closed loop")
            before = _cpu_seconds(process)
            load = await run_load(over_http, _CLIENTS, "closed loop")
            tokens = sum(stream.tokens for stream in load.streams)
            after = _cpu_seconds(process)
            cpu_ms.append({name: 1e3 * (after[name] - before[name]) / tokens for name in after})
            return load

        await measure("http")  # connections, caches
        cpu_ms.clear()
        loads = await alternate(["bare", "http"], alternations, measure)
    await bare.close()
    http, own = loads["http"], loads["bare"]
    median_cpu = {name: percentile([each.get(name, 0.0) for each in cpu_ms], 50) for name in cpu_ms[0]}
    return {
        "engine": server.dtype or "paced",
        "data_plane": server.data_plane,
        "interval_ms": server.stream_interval_ms,
        "bare_tokens_per_s": percentile([load.tokens_per_s for load in own], 50),
        "tokens_per_s": percentile([load.tokens_per_s for load in http], 50),
        "ratio": median_of_ratios([load.tokens_per_s for load in http], [load.tokens_per_s for load in own]),
        "ttft_p50_s": percentile([load.summary()["ttft_p50_s"] for load in http], 50),
        "ttft_p95_s": percentile([load.summary()["ttft_p95_s"] for load in http], 50),
        "cpu_ms_per_token": {name: spent for name, spent in median_cpu.items() if spent >= 0.01},
        "each": [load.summary() for load in http],
        "each_bare": [load.summary() for load in own],
    }


async def _ask_engine(engine: SlotEngine, prompt: Any) -> AsyncIterator[int]:
    request = GenerationRequest(
        "benchmark", tuple(prompt), 64, SamplingParams(temperature=0), ignore_eos=True
    )
    async for event in engine.generate(request):
        if isinstance(event, TextDelta):
            yield event.tokens


async def overload(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """As many clients as slots, then ten times as many, who come back soon after each refusal."""
    server = Server(str(settings.model_dir), _free_port(), max_queue=8)
    settings.progress("overload: paced")
    peak = 0.0
    async with _running(server) as (process, url, session):
        for clients in (_CLIENTS, _CLIENTS * _OVERLOAD_FACTOR):
            before = _memory_mib(process)
            row: dict[str, Any] = {"clients": clients} | await _press(session, url, clients)
            row["memory_growth_mib"] = _memory_mib(process) - before
            peak = peak or row["tokens_per_s"]
            yield row | {"throughput_ratio": row["tokens_per_s"] / peak}


async def _press(session: aiohttp.ClientSession, url: str, clients: int) -> dict[str, Any]:
    ask, statuses, streams = asking(session, url), Counter[str](), list[Stream]()
    began = time.perf_counter()

    async def client(prompt: Any) -> None:
        while time.perf_counter() - began < _OVERLOAD_S:
            try:
                streams.append(await read(ask(prompt)))
                statuses["200"] += 1
            except RefusedError as refusal:
                statuses[str(refusal.status)] += 1
                await asyncio.sleep(_BACK_OFF_S)

    await asyncio.gather(*map(client, prompts(clients)))
    load = Load(time.perf_counter() - began, streams)
    return {"statuses": dict(statuses), **load.summary()}


@asynccontextmanager
async def _running(server: Server) -> AsyncGenerator[tuple[psutil.Process, str, aiohttp.ClientSession]]:
    with _process(server) as process:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield psutil.Process(process.pid), f"http://127.0.0.1:{server.port}", session


@contextmanager
def _process(server: Server) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serve_process", server.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=server.environment,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process started with pipes has none")
    try:
        while (line := process.stdout.readline()) != b"ready\n":
            if not line:
                raise RuntimeError(f"Ray Serve did not start with data plane {server.data_plane!r}")
        yield process
    finally:
        # Without ceremony: a graceful end waits half a minute for what nobody needs any more.
        members = [member for _, member in _family(psutil.Process(process.pid))]
        process.stdin.close()
        process.wait(_STOP_LIMIT_S)
        _, alive = psutil.wait_procs(members, timeout=_STOP_LIMIT_S / 10)
        for member in alive:
            member.kill()


def _family(process: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    for member in [process, *process.children(recursive=True)]:
        try:
            yield _role(" ".join(member.cmdline())), member
        except psutil.NoSuchProcess:
            continue


def _role(command: str) -> str:
    known = {
        "Engine": "engine",
        ":Api": "api",
        "Proxy": "proxy",
        "haproxy": "proxy",
        "raylet": "raylet",
        "gcs_server": "gcs",
        "Controller": "controller",
    }
    return next((role for mark, role in known.items() if mark in command), "other")


def _cpu_seconds(process: psutil.Process) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for role, member in _family(process):
        spent = member.cpu_times()
        seconds[role] += spent.user + spent.system
    own = os.times()
    seconds["client"] = own.user + own.system
    return seconds


def _memory_mib(process: psutil.Process) -> float:
    return sum(member.memory_info().rss for _, member in _family(process)) / 2**20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
