"""Parts `scheduler` and `stalls`: what the engine adds to its runner's time; what prefills do to streams."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from typing import Any

from benchmarks.contestants import SLOTS, Setting, SlotContestant
from benchmarks.settings import Settings
from benchmarks.workload import Stream, percentile, prompts, read, run_load

_STALLING_PROMPTS = 4
_LONG_PROMPT = 400  # tokens, within the default of `prefill_tokens`


async def scheduler(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """What the scheduler, and all of the engine's own code, takes of a step."""
    for dtype in settings.dtypes:
        settings.progress(f"scheduler: {dtype}")
        contestant = SlotContestant(Setting(settings.model_dir, dtype, settings.threads))
        await contestant.start()
        spent = _time_steps(contestant)
        await run_load(contestant.ask, SLOTS, "closed loop")
        await contestant.close()
        scheduling = sum(spent["schedule"]) + sum(spent["update"]) + sum(spent["expire"])
        computing = sum(spent["prefill"]) + sum(spent["decode"])
        # `_execute` holds the runner and `update`; the rest of a step is around it.
        whole = (
            sum(spent["_execute"]) + sum(spent["_publish"]) + sum(spent["schedule"]) + sum(spent["expire"])
        )
        steps = len(spent["prefill"]) + len(spent["decode"])
        yield {
            "dtype": dtype,
            "steps": steps,
            "runner_ms_per_step": 1e3 * computing / steps,
            "scheduler_us_per_step": 1e6 * scheduling / steps,
            "scheduler_share": scheduling / whole,
            "engine_share": 1 - computing / whole,
        }


def _time_steps(contestant: SlotContestant) -> dict[str, list[float]]:
    """From now on, note how long the methods that make up a step take, seconds."""
    loop: Any = contestant.engine._steps  # pyright: ignore[reportPrivateUsage]
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: object) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[name].append(time.perf_counter() - began)

        return call

    for owner, names in (
        (loop, ("_execute", "_publish")),
        (loop._scheduler, ("schedule", "update", "expire")),
        (loop._runner, ("prefill", "decode")),
    ):
        for name in names:
            setattr(owner, name, timed(name, getattr(owner, name)))
    return spent


async def stalls(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """The time between two tokens of a stream, undisturbed and while long prompts come in."""
    for dtype in settings.dtypes:
        settings.progress(f"stalls: {dtype}")
        contestant = SlotContestant(Setting(settings.model_dir, dtype, settings.threads, max_len=512))
        await contestant.start()
        alone = (await read(contestant.ask(prompts(1)[0]))).gaps_s
        stream = asyncio.create_task(read(contestant.ask(prompts(1)[0])))
        disturbing: list[asyncio.Task[Stream]] = []
        for prompt in prompts(_STALLING_PROMPTS):
            await asyncio.sleep(10 * percentile(alone, 50))
            long_prompt = (prompt * _LONG_PROMPT)[:_LONG_PROMPT]
            disturbing.append(asyncio.create_task(read(contestant.ask(long_prompt))))
        disturbed = (await stream).gaps_s
        await asyncio.gather(*disturbing)
        await contestant.close()
        for name, gaps in (("alone", alone), (f"while prompts of {_LONG_PROMPT} tokens arrive", disturbed)):
            yield {
                "dtype": dtype,
                "stream": name,
                "gap_p50_ms": 1e3 * percentile(gaps, 50),
                "gap_p99_ms": 1e3 * percentile(gaps, 99),
                "gap_max_ms": 1e3 * max(gaps),
            }
