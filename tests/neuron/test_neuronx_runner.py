"""The runner on the strict emulator, against transformers' own `generate`."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_apps.llm.engine import GenerationRequest
from serve_apps.llm.runners import Prefill, Row, SamplingParams, UnsupportedModelError
from serve_apps.llm.runners.checked import CheckedRunner
from serve_apps.llm.runners.neuronx import NeuronxRunner
from serve_apps.llm.runners.neuronx_buckets import context_buckets, token_buckets
from serve_apps.llm.scheduler import Scheduler
from serve_apps.neuron_library import NeuronCoresError
from tests.neuron.conftest import VOCABULARY, generated, save_tiny_model

GREEDY = SamplingParams(temperature=0)
CHANCE = random.Random(3)
# One token, a full bucket, one more than a bucket, and lengths between.
LENGTHS = [1, 2, 17, 128, 129, 60, 5, 200, 1, 40]
PROMPTS = [[CHANCE.randrange(VOCABULARY) for _ in range(length)] for length in LENGTHS]
TOKENS = [12, 7, 20, 9, 15, 4, 30, 8, 3, 11]


def loaded(directory: Path, **options: Any) -> CheckedRunner:
    given: dict[str, Any] = {"slots": 4, "max_len": 256, "tensor_parallel": 2, "dtype": "float32"}
    runner = CheckedRunner(NeuronxRunner(directory, **{**given, **options}))
    runner.load()
    return runner


def answers(
    runner: CheckedRunner,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    joins: Sequence[int],
    sampling: Sequence[SamplingParams] | None = None,
) -> list[list[int]]:
    """What each prompt gets when it joins at its step; slots are filled, freed and filled again."""
    scheduler: Scheduler[int] = Scheduler(runner.capabilities, eos_ids=(), max_queue=len(prompts))
    said: list[list[int]] = [[] for _ in prompts]
    step = 0
    while True:
        for key, prompt in enumerate(prompts):
            if joins[key] == step:
                params = sampling[key] if sampling else GREEDY
                scheduler.add(key, GenerationRequest(str(key), tuple(prompt), tokens[key], params), math.inf)
        plan = scheduler.schedule()
        for slot in plan.release:
            runner.release(slot)
        if not plan and step > max(joins):
            return said
        sampled = runner.prefill(plan.prefill) if plan.prefill else []
        sampled = runner.decode(plan.decode) if plan.decode else sampled
        for output in scheduler.update(plan, sampled):
            said[output.key].append(output.token)
        step += 1


@pytest.mark.parametrize("sampling", ["host", "device"])
def test_greedy_answers_equal_generate_while_requests_join_and_leave(
    emulator: Any, tiny_model: Path, sampling: str
) -> None:
    runner = loaded(tiny_model, sampling=sampling)
    joins = [0, 0, 3, 3, 9, 10, 11, 30, 31, 60]
    expected = [generated(tiny_model, *given) for given in zip(PROMPTS, TOKENS, strict=True)]
    assert answers(runner, PROMPTS, TOKENS, joins) == expected


def test_an_answer_may_fill_its_slot_to_the_last_position(emulator: Any, tiny_model: Path) -> None:
    runner = loaded(tiny_model, max_len=160)
    prompts = [PROMPTS[2], PROMPTS[3]]
    tokens = [160 - len(prompt) for prompt in prompts]
    expected = [generated(tiny_model, *given) for given in zip(prompts, tokens, strict=True)]
    assert answers(runner, prompts, tokens, [0, 5]) == expected


def test_a_seed_fixes_an_answer_that_the_host_samples(emulator: Any, tiny_llama: Path) -> None:
    def said(seed: int) -> list[list[int]]:
        sampling = [SamplingParams(temperature=1.3, top_p=0.95, seed=seed)] * 2
        return answers(loaded(tiny_llama), PROMPTS[:2], [12, 12], [0, 0], sampling)

    assert said(1) == said(1) != said(2)


def test_each_slot_is_sampled_on_the_device_by_its_own_parameters(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy requests beside sampled ones, also in slots where a sampled one was before."""
    runner = loaded(tiny_llama, sampling="device")
    wild = SamplingParams(temperature=1.9)
    sampling = [wild, GREEDY, wild, GREEDY, GREEDY, GREEDY, wild, GREEDY, GREEDY, SamplingParams(top_k=1)]
    said = answers(runner, PROMPTS, TOKENS, [0] * len(PROMPTS), sampling)
    expected = [generated(tiny_llama, *given) for given in zip(PROMPTS, TOKENS, strict=True)]
    for params, tokens, greedy in zip(sampling, said, expected, strict=True):
        assert (tokens == greedy) == params.greedy


def test_the_device_is_written_to_before_a_prefill_and_only_for_a_change(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    kind = emulator.LlamaForSampling
    update, forward = kind.update_generation_config, kind.forward

    def noted_update(self: Any, config: Any) -> None:
        calls.append((config.top_k, config.top_p, config.temperature))
        update(self, config)

    def noted_forward(self: Any, ids: Any, **rest: Any) -> Any:
        calls.append("prefill" if ids.shape[1] > 1 else "decode")
        return forward(self, ids, **rest)

    runner = loaded(tiny_llama, slots=2, sampling="device")
    monkeypatch.setattr(kind, "update_generation_config", noted_update)
    monkeypatch.setattr(kind, "forward", noted_forward)
    sampled = SamplingParams(temperature=0.7, top_p=0.5)
    runner.prefill([Prefill(0, [1, 2], sampled)])
    (greedy,) = runner.prefill([Prefill(1, [3, 4], GREEDY)])
    runner.release(0)
    runner.decode([Row(1, greedy.token, 2)])
    runner.prefill([Prefill(0, [5, 6], sampled)])
    runner.release(0)
    runner.prefill([Prefill(0, [7, 8], SamplingParams(temperature=1e-9, top_k=9))])
    half = pytest.approx([0.7, 1.0])
    assert calls == [
        ([64, 1], [0.5, 1.0], half),
        "prefill",
        "prefill",  # greedy in a slot that was greedy
        "decode",
        "prefill",  # the same parameters as the request before
        ([1, 1], [1.0, 1.0], [1.0, 1.0]),
        "prefill",
    ]


def test_what_an_engine_may_ask_for_is_known_before_the_weights(tiny_llama: Path) -> None:
    def capabilities(sampling: Any) -> Any:
        runner = NeuronxRunner(tiny_llama, slots=4, max_len=256, tensor_parallel=2, sampling=sampling)
        return runner.capabilities

    host, device = capabilities("host"), capabilities("device")
    assert (host.prefill_rows, host.max_prompt, host.sampling) == (1, 255, "host")
    assert (host.seed, host.max_top_k) == (True, None)
    assert (device.seed, device.max_top_k, device.sampling) == (False, 64, "device")


def test_the_model_is_compiled_for_what_the_service_says(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    original = emulator.LlamaForSampling.from_pretrained.__func__

    def noted(cls: Any, path: str, **keywords: Any) -> Any:
        given.update(path=path, **keywords)
        return original(cls, path, **keywords)

    monkeypatch.setattr(emulator.LlamaForSampling, "from_pretrained", classmethod(noted))
    loaded(tiny_llama, slots=3, max_len=640, tensor_parallel=4, dtype="bfloat16")
    config = given.pop("neuron_config")
    assert given == {
        "path": str(tiny_llama),
        "batch_size": 3,
        "tp_degree": 4,
        "amp": "bf16",
        "n_positions": [512, 640],
        "context_length_estimate": [128, 512, 640],
    }
    assert config.continuous_batching.batch_size_for_shared_caches == 3
    assert config.attention_layout is config.collectives_layout is emulator.Layout.BSH
    assert config.group_query_attention is emulator.GQA.REPLICATED_HEADS  # 2 heads over 4 cores
    assert config.fuse_qkv
    assert config.on_device_generation is None
    assert 1 <= config.compilation_worker_count <= 4


@pytest.mark.parametrize("longest", [16, 127, 128, 129, 511, 512, 513, 640, 2048, 2049, 8192, 131072])
def test_buckets_are_ascending_unique_and_end_with_the_context(longest: int) -> None:
    for buckets in (context_buckets(longest), token_buckets(longest)):
        assert buckets == sorted(set(buckets))
        assert buckets[-1] == longest


def test_buckets_of_usual_lengths() -> None:
    assert (context_buckets(2048), token_buckets(2048)) == ([128, 512, 2048], [512, 1024, 2048])
    assert (context_buckets(64), token_buckets(64)) == ([64], [64])


def test_one_slot_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"slots is 1.*set slots to 2 or more"):
        NeuronxRunner(tiny_llama, slots=1, max_len=64, tensor_parallel=2)


@pytest.mark.parametrize("visible", ["0", "0-3", "0,1,2"])
def test_cores_that_are_not_as_many_as_needed_are_refused_before_a_load(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", visible)
    with pytest.raises(NeuronCoresError, match=rf"is '{visible}', \d NeuronCores, but tensor_parallel is 2"):
        loaded(tiny_llama)


def test_a_start_runs_every_graph_and_says_where_the_time_went(
    emulator: Any, tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps.llm")
    ran: list[str] = []
    run_graph = emulator.LlamaForSampling.run_graph

    def noted(self: Any, name: str, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        ran.append(name)
        return run_graph(self, name, inputs)

    emulator.LlamaForSampling.run_graph = noted
    loaded(tiny_llama, max_len=600)
    assert ran == ["prefill 128", "decode", "prefill 512", "decode", "prefill 600", "decode"]
    cache = tmp_path / "compile-cache"
    assert f"compile cache {cache}: miss, 5 graphs compiled; 3 prefill and 2 decode graphs" in caplog.text
    loaded(tiny_llama, max_len=600)
    assert f"compile cache {cache}: hit;" in caplog.text
    assert "weights to the device" in caplog.text
    loaded(tiny_llama, max_len=600, slots=5)
    assert caplog.text.count("miss, 5 graphs compiled") == 2  # other shapes, other graphs


def test_a_model_in_several_files_is_loaded(emulator: Any, tmp_path: Path) -> None:
    save_tiny_model(tmp_path, "llama")
    from transformers import AutoModelForCausalLM

    whole = generated(tmp_path, PROMPTS[2], 6)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    from serve_apps.model_package import write_rope_theta

    write_rope_theta(tmp_path)
    assert answers(loaded(tmp_path), [PROMPTS[2]], [6], [0]) == [whole]
