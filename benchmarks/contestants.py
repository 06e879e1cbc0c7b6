"""Three ways to serve one model on this machine, each behind the same `ask`.

All have the same weights, dtype and number of threads, end-of-sequence off, and stream their tokens.
`Running` is one of them in a process of its own, as it would be deployed. Threads that compute for another
one cost a third of a step even while they do nothing: OpenMP lets threads sleep at once where a process has
more of them than there are CPUs.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from benchmarks.workload import ANSWER_TOKENS, Arrival, Load, prompts, read, run_load
from serve_apps.llm.args import DType
from serve_apps.llm.engine import GenerationRequest, TextDelta
from serve_apps.llm.runners import SamplingParams
from serve_apps.llm.runners.torch_runner import TorchRunner
from serve_apps.llm.slot_engine import SlotEngine

SLOTS = 8
PREFILL_TOKENS = 512
_TEMPERATURE, _TOP_K = 0.8, 50
_PAGE_TOKENS = 32


@dataclass(frozen=True)
class Setting:
    """What all contestants share."""

    model_dir: Path
    dtype: DType
    threads: int
    sampled: bool = False
    max_len: int = 256


class Contestant(ABC):
    """One of them; start before asking, close afterwards."""

    name: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    async def start(self) -> None:
        """Load."""

    @abstractmethod
    def ask(self, prompt: Sequence[int]) -> AsyncIterator[int]:
        """The answer, as the number of tokens in each message."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the weights."""


class SlotContestant(Contestant):
    """The slot engine of this project, as `serve_apps.llm.factory` builds it."""

    name = "slot engine"

    async def start(self) -> None:
        """See `Contestant`."""
        runner = TorchRunner(
            self.setting.model_dir,
            slots=SLOTS,
            max_len=self.setting.max_len,
            prefill_tokens=PREFILL_TOKENS,
            dtype=self.setting.dtype,
            threads=self.setting.threads,
        )
        tokenizer = Tokenizer.from_file(str(self.setting.model_dir / "tokenizer.json"))
        self.engine = SlotEngine(runner, tokenizer, eos_ids=(), max_queue=1000, request_timeout_s=3600)
        await self.engine.start()

    async def ask(self, prompt: Sequence[int]) -> AsyncIterator[int]:
        """See `Contestant`."""
        sampling = (
            SamplingParams(temperature=_TEMPERATURE, top_k=_TOP_K)
            if self.setting.sampled
            else SamplingParams(temperature=0)
        )
        request = GenerationRequest("benchmark", tuple(prompt), ANSWER_TOKENS, sampling, ignore_eos=True)
        told = 0
        async for event in self.engine.generate(request):
            if isinstance(event, TextDelta):
                told += event.tokens
                yield event.tokens
        if told < ANSWER_TOKENS:
            yield ANSWER_TOKENS - told  # tokens without text, such as half a character at the end

    async def close(self) -> None:
        """See `Contestant`."""
        await self.engine.close()


class _TransformersContestant(Contestant):
    async def start(self) -> None:
        torch.set_num_threads(self.setting.threads)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            self.setting.model_dir, dtype=getattr(torch, self.setting.dtype), attn_implementation="sdpa"
        )
        self.model.eval()
        self.model.generation_config.eos_token_id = None
        sampling = {"do_sample": True, "temperature": _TEMPERATURE, "top_k": _TOP_K}
        self.generation = GenerationConfig(
            max_new_tokens=ANSWER_TOKENS,
            pad_token_id=0,
            **(sampling if self.setting.sampled else {"do_sample": False}),
        )


class GenerateContestant(_TransformersContestant):
    """The reference pattern: a replica runs one `generate` at a time, as the AWS samples do.

    Its tokens are told as they come, which the samples do not do: its time to first token is what it could
    be at best.
    """

    name = "one generate at a time"

    async def start(self) -> None:
        """See `Contestant`."""
        await super().start()
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, prompt: Sequence[int]) -> AsyncIterator[int]:
        """See `Contestant`."""
        told: asyncio.Queue[int] = asyncio.Queue()
        async with self._turn:
            answering = self._loop.run_in_executor(self._thread, self._generate, prompt, told)
            for _ in range(ANSWER_TOKENS):
                yield await told.get()
            await answering

    def _generate(self, prompt: Sequence[int], told: asyncio.Queue[int]) -> None:
        ids = torch.tensor([list(prompt)])
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=self.generation,
            streamer=_TokenCounter(lambda: self._loop.call_soon_threadsafe(told.put_nowait, 1)),
        )

    async def close(self) -> None:
        """See `Contestant`."""
        self._thread.shutdown()
        del self.model


class _TokenCounter(BaseStreamer):
    """Calls `tell` for every token that `generate` makes; the first thing it is given is the prompt."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell = tell
        self._prompt_seen = False

    def put(self, value: object) -> None:  # noqa: ARG002 - the signature is transformers'
        """See `BaseStreamer`."""
        if self._prompt_seen:
            self._tell()
        self._prompt_seen = True

    def end(self) -> None:
        """See `BaseStreamer`."""


class ContinuousContestant(_TransformersContestant):
    """transformers' own continuous batching: paged, and several prompts a pass.

    It shares no pages between requests here: every alternation sends the same prompts, and their states
    would be there already.
    """

    name = "transformers continuous batching"

    async def start(self) -> None:
        """See `Contestant`."""
        await super().start()
        self.generation.eos_token_id = -1
        self._manager = self.model.init_continuous_batching(
            generation_config=self.generation,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE_TOKENS,
                num_blocks=SLOTS * self.setting.max_len // _PAGE_TOKENS,
                max_batch_tokens=PREFILL_TOKENS,
                allow_block_sharing=False,
                use_async_batching=False,
                use_cuda_graph=False,
            ),
        )
        self._manager.start()
        self._numbers = itertools.count()

    async def ask(self, prompt: Sequence[int]) -> AsyncIterator[int]:
        """See `Contestant`."""
        told: asyncio.Queue[Any] = asyncio.Queue()
        request_id = f"benchmark-{next(self._numbers)}"
        self._manager.register_result_handler(request_id, told.put_nowait)
        self._manager.add_request(
            list(prompt), request_id, max_new_tokens=ANSWER_TOKENS, streaming=True, eos_token_id=-1
        )
        seen, finished = 0, False
        while not finished:
            output = await told.get()
            if output.error:
                raise RuntimeError(f"transformers' continuous batching failed: {output.error}")
            finished = output.is_finished()
            if len(output.generated_tokens) > seen:
                yield len(output.generated_tokens) - seen
                seen = len(output.generated_tokens)

    async def close(self) -> None:
        """See `Contestant`."""
        await asyncio.to_thread(self._manager.stop, block=True)
        del self.model


CONTESTANTS: tuple[type[Contestant], ...] = (SlotContestant, GenerateContestant, ContinuousContestant)


class Running:
    """A contestant in its own process, started and asked once; leaving the context ends it."""

    def __init__(self, kind: type[Contestant], setting: Setting) -> None:
        self._kind, self._setting = kind, setting
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    async def __aenter__(self) -> Self:
        await self._call(_start, self._kind, self._setting)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._call(_close)
        self._process.shutdown()

    async def measure(self, clients: int, arrival: Arrival) -> Load:
        """What comes of a load; its clients are in that process too."""
        return await self._call(_measure, clients, arrival)

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._process, function, *arguments)


# In the contestant's process: its loop, which goes on where it stopped, and the contestant.
_loop: asyncio.AbstractEventLoop
_contestant: Contestant


def _start(kind: type[Contestant], setting: Setting) -> None:
    global _loop, _contestant
    _loop, _contestant = asyncio.new_event_loop(), kind(setting)

    async def start_and_ask() -> None:
        await _contestant.start()
        await read(_contestant.ask(prompts(1)[0]))  # the first request allocates

    _loop.run_until_complete(start_and_ask())


def _measure(clients: int, arrival: Arrival) -> Load:
    return _loop.run_until_complete(run_load(_contestant.ask, clients, arrival))


def _close() -> None:
    _loop.run_until_complete(_contestant.close())
