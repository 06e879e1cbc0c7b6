"""The torch runner with real weights: what it computes is what transformers computes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, MistralConfig, Qwen3NextConfig

from serve_apps.llm.engine import Finished, GenerationRequest
from serve_apps.llm.runners import Prefill, Row, SamplingParams, torch_runner
from serve_apps.llm.runners.checked import CheckedRunner
from serve_apps.llm.runners.torch_runner import TorchRunner, UnsupportedModelError, available_cpus
from serve_apps.llm.scheduler import Scheduler
from serve_apps.llm.slot_engine import SlotEngine

GREEDY = SamplingParams(temperature=0)
MAX_LEN = 48
EOS = 2
TEXTS = [
    "The capital of France is",
    "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n",
    "1 2 3 4 5 6",
    "Once upon a time there was a little girl who lived in a small house at the edge of a large and very "
    "dark wood, and every evening, when the sun went down,",
    "def fibonacci(n):\n    ",
    "Water",
    "Roses are red, violets are",
    "The opposite of hot is",
]
LONGEST = 3  # of the texts: longer than a shared prefill may be, and answered up to the end of its slot


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(model_dir)


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[tuple[int, ...]]:
    return [tuple(tokenizer.encode(text)) for text in TEXTS]


@pytest.fixture(scope="module")
def requests(prompts: list[tuple[int, ...]]) -> list[GenerationRequest]:
    lengths = [9, 4, 7, MAX_LEN - len(prompts[LONGEST]), 6, 10, 3, 8]
    return [GenerationRequest("r", *asked, GREEDY) for asked in zip(prompts, lengths, strict=True)]


@pytest.fixture(scope="module")
def generated(model_dir: Path, requests: list[GenerationRequest]) -> list[list[int]]:
    """What transformers' own `generate` answers, one request at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    def generate(request: GenerationRequest) -> list[int]:
        ids = torch.tensor([request.prompt_ids])
        options = {"max_new_tokens": request.max_tokens, "do_sample": False, "pad_token_id": EOS}
        return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist()

    return [generate(request) for request in requests]


@pytest.fixture(scope="module")
def runner(model_dir: Path) -> CheckedRunner:
    """Three slots in float32, all free before and after each test."""
    runner = TorchRunner(model_dir, slots=3, max_len=MAX_LEN, prefill_tokens=32, dtype="float32")
    checked = CheckedRunner(runner)
    checked.load()
    return checked


def answers(
    runner: CheckedRunner,
    requests: Sequence[GenerationRequest],
    joins: Sequence[int],
    leaves: Mapping[int, int] = MappingProxyType({}),
) -> list[list[int]]:
    """The tokens of each request; request i joins before step joins[i] and is cancelled before leaves[i]."""
    scheduler: Scheduler[int] = Scheduler(runner.capabilities, eos_ids={EOS}, max_queue=len(requests))
    tokens: list[list[int]] = [[] for _ in requests]
    for step in count():
        for key, request in enumerate(requests):
            if joins[key] == step:
                scheduler.add(key, request, deadline=math.inf)
            if leaves.get(key) == step:
                scheduler.cancel(key)
        plan = scheduler.schedule()
        if not plan and step > max(joins):
            break
        for slot in plan.release:
            runner.release(slot)
        sampled = runner.prefill(plan.prefill) if plan.prefill else []
        sampled = runner.decode(plan.decode) if plan.decode else sampled
        for output in scheduler.update(plan, sampled):
            tokens[output.key].append(output.token)
    return tokens


def test_greedy_answers_equal_generate_while_requests_join_and_leave(
    runner: CheckedRunner, requests: list[GenerationRequest], generated: list[list[int]]
) -> None:
    chance = random.Random(1)
    joins = [chance.randrange(20) for _ in requests]
    assert answers(runner, requests, joins) == generated


def test_cancelled_requests_leave_the_others_unharmed(
    runner: CheckedRunner, requests: list[GenerationRequest], generated: list[list[int]]
) -> None:
    # All join at once, so slots are refilled as they fall free; two leave in the middle of their answers.
    said = answers(runner, requests, joins=[0] * len(requests), leaves={0: 4, 5: 19})
    for key, tokens in enumerate(said):
        assert tokens == generated[key][: len(tokens)]
        assert (len(tokens) < len(generated[key])) == (key in (0, 5))


def test_in_bfloat16_a_crowded_slot_equals_a_solo_one(
    model_dir: Path, prompts: list[tuple[int, ...]]
) -> None:
    """At the same decode shape, four rows, and the same grouping of prefills, each prompt by itself."""
    runner = CheckedRunner(TorchRunner(model_dir, slots=4, max_len=48, prefill_tokens=32, dtype="bfloat16"))
    runner.load()
    crowd = [prompts[0], prompts[2], prompts[6], prompts[7]]
    crowded = decoded_together(runner, crowd)
    for slot in (1, 2):
        solo = [prompt if index == slot else (EOS,) for index, prompt in enumerate(crowd)]
        assert decoded_together(runner, solo)[slot] == crowded[slot]


def decoded_together(runner: CheckedRunner, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    said = [[runner.prefill([Prefill(slot, ids, GREEDY)])[0].token] for slot, ids in enumerate(prompts)]
    for step in range(8):
        rows = [Row(slot, said[slot][-1], len(ids) + step) for slot, ids in enumerate(prompts)]
        for tokens, sampled in zip(said, runner.decode(rows), strict=True):
            tokens.append(sampled.token)
    for slot in range(len(prompts)):
        runner.release(slot)
    return said


def test_a_seed_fixes_a_sampled_answer(runner: CheckedRunner, prompts: list[tuple[int, ...]]) -> None:
    def answer(seed: int) -> list[int]:
        sampling = SamplingParams(temperature=1.2, top_p=0.95, seed=seed)
        return answers(runner, [GenerationRequest("r", prompts[5], 8, sampling)], joins=[0])[0]

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


async def test_eight_concurrent_requests_are_decoded_together(
    model_dir: Path, tokenizer: Any, prompts: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps.llm")
    runner = TorchRunner(model_dir, slots=8, max_len=MAX_LEN, prefill_tokens=128, dtype="float32")
    engine = SlotEngine(
        CheckedRunner(runner),
        tokenizer.backend_tokenizer,
        eos_ids={EOS},
        max_queue=0,
        request_timeout_s=300,
    )
    await engine.start()

    async def ask(ids: tuple[int, ...]) -> Any:
        request = GenerationRequest("r", ids, 12, GREEDY, ignore_eos=True)
        return [event async for event in engine.generate(request)][-1]

    ends = await asyncio.gather(*map(ask, prompts))
    stats = engine.stats()
    await engine.close()
    assert ends == [Finished("length", len(ids), 12) for ids in prompts]
    assert stats.decode_rows == 8 * 11
    assert stats.decode_slots <= 8 * 16  # 16 decode steps at most, where one by one would take 88
    assert stats.steps <= 20
    # One copy of 134.5 million weights; 30 layers x 2 x 3 heads x 64 x 4 bytes of cache for each token.
    assert "weights: 513 MiB, one copy, float32" in caplog.text
    assert "KV cache: 16 MiB = 8 slots x 48 tokens x 46080 bytes" in caplog.text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (MistralConfig(sliding_window=32), "sliding window of 32 tokens"),
        (Gemma3TextConfig(sliding_window=32), "sliding window of 32 tokens"),
        (Qwen3NextConfig(), "layers of type linear_attention"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_attention_that_would_be_computed_wrongly_is_refused(tmp_path: Path, config: Any, words: str) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=words):
        TorchRunner(tmp_path, slots=1, max_len=33, prefill_tokens=32)


def test_a_window_as_long_as_a_slot_does_no_harm(tmp_path: Path) -> None:
    MistralConfig(sliding_window=32).save_pretrained(tmp_path)
    assert TorchRunner(tmp_path, slots=1, max_len=32, prefill_tokens=32).capabilities.max_len == 32


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 1), ("5000 100000", 1), ("max 100000", None)]
)
def test_the_cpu_quota_of_a_container_limits_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota + "\n")
    monkeypatch.setattr(torch_runner, "_CPU_QUOTA", file)
    assert available_cpus() == (expected or len(os.sched_getaffinity(0)))
