"""The real application over a runner without a model, which answers at a fixed pace.

Everything but the runner is what a service runs: API, tokenizer, scheduler, engine thread, Serve config. It
takes next to no CPU, so that two cores are enough for a cluster, its clients and what happens to it.
"""

# No `from __future__ import annotations`: see serve_apps/llm/app.py.

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ray.serve import Application
from tokenizers import Tokenizer

from serve_apps.llm.app import application
from serve_apps.llm.args import LlmArgs
from serve_apps.llm.runners import Capabilities, Prefill, Row, Sampled
from serve_apps.llm.slot_engine import SlotEngine
from serve_apps.models import resolve

IMPORT_PATH = "tests.ha.paced_app:build_app"
STEP_S_ENV = "NEURON_SERVE_TEST_STEP_S"
DEFAULT_STEP_S = 0.04
# Who makes the file of this name in this directory makes one engine hang, as a device that never comes back.
DIRECTORY_ENV = "NEURON_SERVE_TEST_DIRECTORY"
HANG = "hang"
_HANG_S = 3600


def build_app(args: LlmArgs) -> Application:
    """See `serve_apps.llm.app.build_app`."""
    return application(args, build_engine)


def build_engine(args: LlmArgs) -> SlotEngine:
    """A real engine over the paced runner."""
    tokenizer = Tokenizer.from_file(str(Path(resolve(args.model)) / "tokenizer.json"))
    return SlotEngine(
        PacedRunner(args, tokenizer),
        tokenizer,
        eos_ids=(),  # an answer is as long as was asked for
        max_queue=args.max_queue,
        request_timeout_s=args.request_timeout_s,
        step_timeout_s=args.step_timeout_s,
    )


class PacedRunner:
    """Each step takes the same time, whatever is in it, as on an accelerator with a fixed batch."""

    def __init__(self, args: LlmArgs, tokenizer: Tokenizer) -> None:
        self._step_s = float(os.environ.get(STEP_S_ENV, DEFAULT_STEP_S))
        self._word = tokenizer.encode(" word").ids[0]
        self._hang = Path(os.environ[DIRECTORY_ENV]) / HANG
        self.capabilities = Capabilities(
            slots=args.slots,
            max_len=args.max_model_len,
            max_prompt=args.max_model_len - 1,
            prefill_rows=args.slots,
            prefill_tokens=args.prefill_tokens,
            sampling="host",
        )

    def load(self) -> None:
        """Nothing to load."""

    def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
        """One step for all."""
        self._step()
        return [Sampled(self._word) for _ in items]

    def decode(self, rows: Sequence[Row]) -> list[Sampled]:
        """One step for all."""
        self._step()
        return [Sampled(self._word) for _ in rows]

    def release(self, slot: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""

    def _step(self) -> None:
        if self._hang.exists():
            with suppress(FileNotFoundError):  # another engine took it
                self._hang.unlink()
                time.sleep(_HANG_S)
        time.sleep(self._step_s)
