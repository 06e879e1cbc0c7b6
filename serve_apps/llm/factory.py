"""From the app's arguments to an engine: the only place that knows which engines there are.

torch and transformers are imported when an engine is built, so that describing an app needs neither.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_apps.llm.args import LlmArgs
from serve_apps.llm.engine import ALIVE_INTERVAL_S
from serve_apps.llm.runners import Runner
from serve_apps.llm.slot_engine import SlotEngine
from serve_apps.models import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from serve_apps.llm.runners.neuronx import NeuronxRunner


logger = logging.getLogger(__name__)


class EngineConfigError(ValueError):
    """The arguments and the model, or this build, do not go together; the message has the way out."""


def build_engine(args: LlmArgs) -> SlotEngine:
    """The engine that `args` describe, not started. May download or convert the model first.

    Raises `EngineConfigError`, `serve_apps.models.ModelError` for a model that cannot be had, or
    `serve_apps.llm.runners.UnsupportedModelError` for one that the engine does not do.
    """
    _shorten_spinning()
    model_dir = _model_dir(args)
    runner = _neuronx_runner(args, model_dir) if args.device == "neuron" else _torch_runner(args, model_dir)
    tokenizer, tokenizer_eos_ids = _tokenizer(args.model, model_dir)
    return SlotEngine(
        runner,
        tokenizer,
        eos_ids=eos_ids(model_dir) | tokenizer_eos_ids,
        max_queue=args.max_queue,
        request_timeout_s=args.request_timeout_s,
        step_timeout_s=args.step_timeout_s,
        stream_interval_s=args.stream_interval_ms / 1000,
        alive_interval_s=ALIVE_INTERVAL_S,
    )


def compile_graphs(args: LlmArgs) -> None:
    """Put the graphs of the engine that `args` describe into the compile cache, without a NeuronCore.

    Raises what `build_engine` raises, and `EngineConfigError` for an engine that compiles nothing.
    """
    if args.device != "neuron":
        raise EngineConfigError(f"device {args.device!r} compiles no graphs; only neuron does")
    _neuronx_runner(args, _model_dir(args)).compile()


def _model_dir(args: LlmArgs) -> Path:
    began = time.monotonic()
    model_dir = resolve(args.model)
    logger.info("model directory ready after %.1f s", time.monotonic() - began)
    _check_context(args, model_dir)
    return model_dir


def _torch_runner(args: LlmArgs, model_dir: Path) -> Runner:
    from serve_apps.llm.runners.torch_runner import TorchRunner

    return TorchRunner(
        model_dir,
        slots=args.slots,
        max_len=args.max_model_len,
        prefill_tokens=args.prefill_tokens,
        device="cuda" if args.device == "cuda" else "cpu",
        dtype=args.dtype,
    )


def _neuronx_runner(args: LlmArgs, model_dir: Path) -> NeuronxRunner:
    from serve_apps.llm.runners.neuronx import NeuronxRunner

    return NeuronxRunner(
        model_dir,
        slots=args.slots,
        max_len=args.max_model_len,
        tensor_parallel=args.tensor_parallel,
        dtype=args.dtype,
        sampling=args.sampling,
    )


def eos_ids(model_dir: Path) -> set[int]:
    """The tokens that end an answer, as `generation_config.json` says, or else `config.json`."""
    for name in ("generation_config.json", "config.json"):
        declared = _read(model_dir / name).get("eos_token_id")
        if declared is not None:
            return set(declared) if isinstance(declared, list) else {declared}
    return set()


def _tokenizer(model: str, model_dir: Path) -> tuple[Tokenizer, set[int]]:
    """The tokenizer itself, and its own end-of-sequence id if it has one."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    if not tokenizer.is_fast:
        raise EngineConfigError(
            f"model {model!r} has no fast tokenizer, which streaming needs; add a tokenizer.json to it "
            "or choose another model"
        )
    return tokenizer.backend_tokenizer, {tokenizer.eos_token_id} - {None}


def _check_context(args: LlmArgs, model_dir: Path) -> None:
    longest = _read(model_dir / "config.json").get("max_position_embeddings")
    if longest is not None and args.max_model_len > longest:
        raise EngineConfigError(
            f"max_model_len is {args.max_model_len}, but model {args.model!r} knows {longest} positions; "
            f"set max_model_len to {longest} or less"
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _shorten_spinning() -> None:
    """Let OpenMP's threads spin for tens of microseconds before they sleep; only before torch loads.

    The engine shares its CPUs with the API and the proxy, and a spinning thread uses up the time slice that
    the thread it waits for needs. On two busy cores a step takes several times longer with the default of
    300,000 turns; on two idle ones this is as fast, while sleeping at once costs a quarter.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
