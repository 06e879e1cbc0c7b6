"""How many rows of a decode carry a request, when more requests wait than there are slots.

    python -m benchmarks.slot_occupancy --slots 8

The scheduler runs alone, with the limits of transformers-neuronx (one prompt a prefill); steps are counted,
not timed. A decode computes every slot, so a row without a request is lost.
"""

from __future__ import annotations

import argparse
import math
import random

from serve_apps.llm.engine import GenerationRequest
from serve_apps.llm.runners import Capabilities, Sampled
from serve_apps.llm.scheduler import Scheduler

ANSWER_TOKENS = (4, 8, 16, 32, 64, 128, 256, 512)


def occupancy(slots: int, tokens: int, *, spread: float = 0.0, requests: int = 400, seed: int = 0) -> float:
    """Share of decode rows with a request, from a full queue until the queue is empty.

    Answers have `tokens` tokens, give or take `spread` of that.
    """
    chance = random.Random(seed)  # noqa: S311 - lengths, no secrets
    limits = Capabilities(
        slots=slots,
        max_len=4096,
        max_prompt=4095,
        prefill_rows=1,
        prefill_tokens=4095,
        sampling="host",
    )
    scheduler: Scheduler[int] = Scheduler(limits, eos_ids=(), max_queue=requests)
    for key in range(requests):
        length = max(1, round(tokens * chance.uniform(1 - spread, 1 + spread)))
        scheduler.add(key, GenerationRequest(str(key), (1,), length), math.inf)
    rows = decodes = 0
    while scheduler.queued:
        plan = scheduler.schedule()
        scheduler.update(plan, [Sampled(0)] * len(plan.prefill or plan.decode))
        rows += len(plan.decode)
        decodes += bool(plan.decode)
    return rows / (decodes * slots) if decodes else 1.0


def main() -> None:
    """Print a table for docs/neuron.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slots", type=int, default=8, help="slots of a replica (default 8)")
    slots = parser.parse_args().slots
    print(f"| answer, tokens | equal lengths, {slots} slots | lengths +-50 % |\n|---|---|---|")
    for tokens in ANSWER_TOKENS:
        equal, mixed = occupancy(slots, tokens), occupancy(slots, tokens, spread=0.5)
        print(f"| {tokens} | {equal:.1%} | {mixed:.1%} |")


if __name__ == "__main__":
    main()
