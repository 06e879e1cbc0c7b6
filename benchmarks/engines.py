"""Engines as the parts about Ray Serve need them: with a model or paced, here or in a replica."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from benchmarks.paced import paced_engine
from serve_apps.llm.slot_engine import SlotEngine

if TYPE_CHECKING:
    from benchmarks.serve_process import Server


def build(server: Server) -> SlotEngine:
    """The engine that `server` describes, not started; no token ends an answer."""
    tokenizer = Tokenizer.from_file(str(Path(server.model_dir) / "tokenizer.json"))
    interval_s = server.stream_interval_ms / 1000
    if server.dtype is None:
        return paced_engine(tokenizer, interval_s, server.max_queue)
    from serve_apps.llm.runners.torch_runner import TorchRunner

    runner = TorchRunner(
        Path(server.model_dir),
        slots=8,
        max_len=256,
        prefill_tokens=512,
        dtype=server.dtype,  # pyright: ignore[reportArgumentType]
        threads=server.threads,
    )
    return SlotEngine(
        runner,
        tokenizer,
        eos_ids=(),
        max_queue=server.max_queue,
        request_timeout_s=600,
        stream_interval_s=interval_s,
    )
