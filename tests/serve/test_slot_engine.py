"""The engine around a runner without a model: who gets what, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from tokenizers import Tokenizer

from serve_apps.llm.engine import Alive, Event, Failed, Finished, GenerationRequest, TextDelta, Timings
from serve_apps.llm.runners import Capabilities, SamplingParams
from serve_apps.llm.runners.checked import CheckedRunner
from serve_apps.llm.slot_engine import EngineDeadError, SlotEngine
from tests.echo_runner import EchoRunner, capabilities
from tests.waiting import until

PATIENCE_S = 30
LONG = 10**8  # tokens: an answer that ends only because a test ends it
ROOMY = capabilities(max_len=2 * LONG, prefill_tokens=512)
ONE_SLOT = capabilities(slots=1, max_len=2 * LONG)
SETTINGS = {"max_queue": 16, "request_timeout_s": PATIENCE_S, "max_unread_events": LONG}


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model_dir / "tokenizer.json"))


class Harness:
    """Starts engines, each over its own checked echo runner, and closes them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.engines: list[SlotEngine] = []
        self.gates: list[threading.Semaphore] = []

    def build(
        self, limits: Capabilities = ROOMY, *, gated: bool = False, **options: Any
    ) -> tuple[SlotEngine, EchoRunner]:
        gate = threading.Semaphore(0) if gated else None
        if gate:
            self.gates.append(gate)
        failure = options.pop("load_failure", None)
        runner = EchoRunner(limits, gate=gate, load_failure=failure)
        settings = {"eos_ids": {self.tokenizer.token_to_id("<|im_end|>")}} | SETTINGS | options
        engine = SlotEngine(CheckedRunner(runner), self.tokenizer, **settings)
        self.engines.append(engine)
        return engine, runner

    async def start(self, *arguments: Any, **options: Any) -> tuple[SlotEngine, EchoRunner]:
        engine, runner = self.build(*arguments, **options)
        await engine.start()
        return engine, runner

    def request(
        self, prompt: str = " one two three", max_tokens: int = 6, **options: Any
    ) -> GenerationRequest:
        ids = tuple(self.tokenizer.encode(prompt).ids)
        return GenerationRequest(options.pop("request_id", "r"), ids, max_tokens, **options)

    async def close(self) -> None:
        for gate in self.gates:
            gate.release(10_000)
        for engine in self.engines:
            await engine.close()


@pytest_asyncio.fixture
async def harness(tokenizer: Tokenizer) -> AsyncIterator[Harness]:
    harness = Harness(tokenizer)
    yield harness
    await harness.close()


async def read(engine: SlotEngine, request: GenerationRequest) -> tuple[str, Event]:
    """The whole text and how it ended."""
    events = [event async for event in engine.generate(request)]
    assert all(isinstance(event, TextDelta) for event in events[:-1])
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events[-1]


def stream(engine: SlotEngine, request: GenerationRequest) -> AsyncGenerator[Event, None]:
    return cast(AsyncGenerator[Event, None], engine.generate(request))


async def test_who_waits_is_told_that_the_engine_is_there(harness: Harness) -> None:
    engine, _ = await harness.start(ONE_SLOT, gated=True, alive_interval_s=0.01)
    computed, queued = (stream(engine, harness.request(" a b", 1)) for _ in range(2))
    for _ in range(3):
        assert await anext(computed) == await anext(queued) == Alive()
    await asyncio.sleep(0.1)
    harness.gates[0].release(10)
    await until(lambda: engine.stats().finished == 2)
    for waiting in (computed, queued):
        # What is not read does not pile up.
        events = [event async for event in waiting]
        assert events == [Alive(), TextDelta(" a", 1), Finished("length", 2, 1)]


async def test_every_request_gets_its_own_answer(harness: Harness) -> None:
    engine, _ = await harness.start(max_queue=40)
    chance = random.Random(0)
    words = [" red", " green", " blue", " cyan", " pink", " grey"]
    prompts = ["".join(chance.choices(words, k=chance.randint(1, 6))) for _ in range(40)]
    lengths = [chance.randint(1, 30) for _ in prompts]

    async def ask(prompt: str, length: int) -> None:
        await asyncio.sleep(chance.random() / 100)
        text, end = await read(engine, harness.request(prompt, length))
        ids = harness.tokenizer.encode(prompt).ids
        assert text == harness.tokenizer.decode((ids * length)[:length])
        assert end == Finished("length", len(ids), length)

    await asyncio.gather(*map(ask, prompts, lengths))
    stats = engine.stats()
    assert (stats.finished, stats.failed, stats.slots_in_use, stats.queued) == (40, 0, 0, 0)
    assert stats.decode_rows == sum(lengths) - 40
    assert stats.prefill_tokens == sum(len(harness.tokenizer.encode(prompt).ids) for prompt in prompts)


async def test_an_end_of_sequence_token_ends_the_answer_and_is_no_text(harness: Harness) -> None:
    engine, _ = await harness.start()
    assert await read(engine, harness.request(" one two<|im_end|> three")) == (
        " one two",
        Finished("stop", 4, 3),
    )


async def test_an_end_of_sequence_token_is_no_text_even_if_it_could_be(harness: Harness) -> None:
    engine, _ = await harness.start(eos_ids={harness.tokenizer.token_to_id("Ġthree")})
    assert await read(engine, harness.request(" one two three")) == (" one two", Finished("stop", 3, 3))


async def test_an_engine_without_requests_does_nothing(harness: Harness) -> None:
    engine, _ = await harness.start()
    await read(engine, harness.request())
    await until(lambda: engine.stats().slots_in_use == 0)
    await asyncio.sleep(0.05)
    before = engine.stats()
    await asyncio.sleep(0.05)
    assert engine.stats() is before  # each turn of the loop would have made a new one


async def test_ignore_eos_runs_on_to_max_tokens(harness: Harness) -> None:
    engine, _ = await harness.start()
    request = harness.request(" one two<|im_end|>", 7, ignore_eos=True)
    assert await read(engine, request) == (" one two one two one", Finished("length", 3, 7))


async def test_a_stop_string_ends_the_answer_before_it(harness: Harness) -> None:
    engine, runner = await harness.start()
    request = harness.request(" one two three", LONG, stop=("three on", "never"))
    assert await read(engine, request) == (" one two ", Finished("stop", 3, 4))
    await until(lambda: ("release", (0,)) in runner.calls)
    assert engine.stats().slots_in_use == 0


async def test_the_tokens_of_the_deltas_add_up(harness: Harness) -> None:
    engine, _ = await harness.start()
    events = [event async for event in engine.generate(harness.request(" 東京 👩‍👩‍👧 ok", 40))]
    assert sum(event.tokens for event in events if isinstance(event, TextDelta)) == 40


async def test_with_an_interval_the_first_piece_comes_at_once_and_the_rest_together(harness: Harness) -> None:
    engine, _ = await harness.start(gated=True, stream_interval_s=3600)
    events = stream(engine, harness.request(max_tokens=5))
    harness.gates[0].release()  # the prefill alone
    first = await anext(events)
    harness.gates[0].release(4)
    rest = [event async for event in events]
    assert first == TextDelta(" one", 1)
    assert rest == [TextDelta(" two three one two", 4), Finished("length", 3, 5)]


async def test_text_that_waits_for_its_interval_is_not_lost_when_the_engine_fails(harness: Harness) -> None:
    engine, runner = await harness.start(gated=True, stream_interval_s=3600)
    events = stream(engine, harness.request(" one two", 5))
    harness.gates[0].release(2)
    assert await anext(events) == TextDelta(" one", 1)
    await until(lambda: engine.stats().steps == 2)
    runner.step_failure = RuntimeError("broken")
    harness.gates[0].release()
    rest = [event async for event in events]
    assert rest[0] == TextDelta(" two", 1)
    assert isinstance(rest[1], Failed)


async def test_a_reader_that_leaves_frees_its_slot_within_one_step(harness: Harness) -> None:
    engine, runner = await harness.start(ONE_SLOT, gated=True)
    (gate,) = harness.gates
    leaving, waiting = stream(engine, harness.request(max_tokens=LONG)), harness.request(max_tokens=1)
    gate.release(3)
    await anext(leaving)
    next_answer = asyncio.create_task(read(engine, waiting))
    await until(lambda: engine.stats().steps == 3)
    await leaving.aclose()
    gate.release(2)
    assert await next_answer == (" one", Finished("length", 3, 1))
    # At most the step that was already under way when the reader left comes between.
    assert [kind for kind, _ in runner.calls[3:]][:3] in (
        ["decode", "release", "prefill"],
        ["release", "prefill"],
        ["release", "prefill", "release"],
    )


async def test_a_cancelled_task_frees_its_slot(harness: Harness) -> None:
    engine, _ = await harness.start()
    task = asyncio.create_task(read(engine, harness.request(max_tokens=LONG)))
    await until(lambda: engine.stats().slots_in_use == 1)
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: engine.stats().slots_in_use == 0)
    assert engine.stats().decode_rows < LONG - 1


async def test_a_cancelled_request_that_waits_never_runs(harness: Harness) -> None:
    engine, runner = await harness.start(ONE_SLOT, gated=True)
    running = asyncio.create_task(read(engine, harness.request(max_tokens=3)))
    await until(lambda: engine.stats().queued == 0)
    waiting = asyncio.create_task(read(engine, harness.request()))
    harness.gates[0].release()
    await until(lambda: engine.stats().queued == 1)
    waiting.cancel()
    await asyncio.wait([waiting])
    harness.gates[0].release(10)
    await running
    await until(lambda: engine.stats().queued == 0)
    assert [kind for kind, _ in runner.calls].count("prefill") == 1


async def test_a_request_that_takes_too_long_ends_with_a_timeout_wherever_it_is(harness: Harness) -> None:
    engine, _ = await harness.start(ONE_SLOT, request_timeout_s=0.3)
    running, waiting = (read(engine, harness.request(max_tokens=LONG)) for _ in "ab")
    for _, end in await asyncio.gather(running, waiting):
        assert isinstance(end, Failed)
        assert end.kind == "timeout"
        assert "0.3 s" in end.message
    stats = engine.stats()
    assert (stats.failed, stats.slots_in_use, stats.queued) == (2, 0, 0)


async def test_a_reader_that_stops_reading_is_cut_off(harness: Harness) -> None:
    engine, _ = await harness.start(max_unread_events=5)
    slow = stream(engine, harness.request(max_tokens=LONG))
    await anext(slow)
    await until(lambda: engine.stats().slots_in_use == 0)
    rest = [event async for event in slow]
    assert len(rest) <= 6
    assert isinstance(rest[-1], Failed)
    assert rest[-1].kind == "slow_reader"
    assert engine.stats().failed == 1
    assert engine.stats().decode_rows < LONG - 1


async def test_a_full_queue_refuses_at_once_and_the_others_finish(harness: Harness) -> None:
    engine, _ = await harness.start(ONE_SLOT, gated=True, max_queue=1)
    tasks = [asyncio.create_task(read(engine, harness.request(max_tokens=4))) for _ in range(2)]
    harness.gates[0].release()
    await until(lambda: engine.stats().queued == 1)
    refused = asyncio.create_task(read(engine, harness.request()))
    await asyncio.sleep(0)  # it is submitted while the slot and the queue are still taken
    harness.gates[0].release(10)
    _, failed = await refused
    assert isinstance(failed, Failed)
    assert failed.kind == "queue_full"
    assert failed.retry_after_s is not None
    assert failed.retry_after_s >= 1
    assert [end for _, end in await asyncio.gather(*tasks)] == [Finished("length", 3, 4)] * 2


async def test_a_runner_that_raises_fails_what_is_in_flight_and_the_engine(harness: Harness) -> None:
    engine, runner = await harness.start(ONE_SLOT, gated=True)
    running, waiting = (asyncio.create_task(read(engine, harness.request(max_tokens=99))) for _ in "ab")
    harness.gates[0].release()
    await until(lambda: engine.stats().queued == 1)
    engine.check_health()
    runner.step_failure = RuntimeError("device lost while computing 'a secret'")
    harness.gates[0].release(10)
    ends = [end for _, end in (await running, await waiting, await read(engine, harness.request()))]
    assert all(isinstance(end, Failed) and "secret" not in end.message for end in ends)
    # Only what was in the step may be its cause; the others are safe with another engine.
    assert [end.kind for end in ends] == ["engine_error", "engine_gone", "engine_gone"]
    with pytest.raises(EngineDeadError) as dead:
        engine.check_health()
    assert dead.value.__cause__ is runner.step_failure
    assert runner.closed


async def test_a_runner_that_cannot_load_fails_the_start(harness: Harness) -> None:
    engine, runner = harness.build(load_failure=OSError("no such weights"))
    with pytest.raises(OSError, match="no such weights"):
        await engine.start()
    assert runner.closed
    assert (await read(engine, harness.request()))[1] == Failed("engine_gone", "the engine is not running")


async def test_close_ends_requests_and_thread(harness: Harness) -> None:
    engine, runner = await harness.start(ONE_SLOT)
    running, waiting = (stream(engine, harness.request(max_tokens=LONG)) for _ in "ab")
    await anext(running)
    first_of_waiting = asyncio.create_task(anext(waiting))
    await until(lambda: engine.stats().queued == 1)
    await engine.close()
    await engine.close()
    assert runner.closed
    assert "engine" not in [thread.name for thread in threading.enumerate()]
    *_, last = [event async for event in running]
    for end in (last, await first_of_waiting, (await read(engine, harness.request()))[1]):
        assert isinstance(end, Failed)
        assert end.kind == "engine_gone"
    with pytest.raises(EngineDeadError):
        engine.check_health()


async def test_a_step_that_hangs_is_ill_and_one_that_ends_is_not(harness: Harness) -> None:
    engine, _ = await harness.start(ONE_SLOT, gated=True, step_timeout_s=0.05)
    answer = asyncio.create_task(read(engine, harness.request(max_tokens=2)))

    def ill() -> bool:
        try:
            engine.check_health()
        except EngineDeadError as error:
            return "a step has been running for" in str(error)
        return False

    assert not ill()
    await until(ill)
    harness.gates[0].release(10)
    await answer
    await until(lambda: not ill())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "no tokens"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"prompt": " one" * 16}, "16 tokens, the limit is 15"),
        ({"max_tokens": 14}, "exceed the 16 tokens"),
        ({"stop": ("",)}, "stop string is empty"),
        ({"sampling": SamplingParams(temperature=math.nan)}, "temperature is nan"),
        ({"sampling": SamplingParams(temperature=-1)}, "temperature is -1"),
        ({"sampling": SamplingParams(top_p=0)}, "top_p is 0"),
        ({"sampling": SamplingParams(top_k=-1)}, "top_k is -1"),
        ({"sampling": SamplingParams(top_k=65)}, "top_k is 65, the limit is 64"),
        ({"sampling": SamplingParams(seed=1)}, "takes no seed"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_request_that_would_harm_others_is_refused(
    harness: Harness, change: dict[str, Any], words: str
) -> None:
    engine, _ = await harness.start(capabilities(max_len=16, max_top_k=64, seed=False))
    _, end = await read(engine, harness.request(**change))
    assert isinstance(end, Failed)
    assert end.kind == "invalid_request"
    assert words in end.message
    assert (await read(engine, harness.request()))[1] == Finished("length", 3, 6)


async def test_a_token_id_beyond_the_vocabulary_is_refused(harness: Harness) -> None:
    engine, _ = await harness.start()
    _, end = await read(engine, GenerationRequest("r", (5, 10**6), 4))
    assert isinstance(end, Failed)
    assert end.kind == "invalid_request"


async def test_a_step_wakes_the_event_loop_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = await harness.start(gated=True)
    tasks = [asyncio.create_task(read(engine, harness.request(max_tokens=20))) for _ in range(4)]
    await until(lambda: all(not task.done() for task in tasks))
    loop = asyncio.get_running_loop()
    wakes: list[object] = []
    call_soon_threadsafe = loop.call_soon_threadsafe

    def counted(*arguments: Any, **options: Any) -> asyncio.Handle:
        wakes.append(arguments)
        return call_soon_threadsafe(*arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    harness.gates[0].release(1000)
    await asyncio.gather(*tasks)
    assert 20 <= len(wakes) <= engine.stats().steps


async def test_every_token_is_timed_once_and_taken_once(harness: Harness) -> None:
    engine, _ = await harness.start()
    ends = await asyncio.gather(*(read(engine, harness.request(max_tokens=n)) for n in (1, 5, 9)))
    timings = engine.take_timings()
    assert (len(timings.queued_s), len(timings.first_token_s), len(timings.between_tokens_s)) == (3, 3, 12)
    assert engine.stats().generated_tokens == 15
    for _, end in ends:
        assert isinstance(end, Finished)
        assert end.queued_s in timings.queued_s
        assert end.first_token_s in timings.first_token_s
        assert 0 <= end.queued_s <= end.first_token_s
    assert engine.take_timings() == Timings([], [], [])


async def test_one_log_line_a_request_and_no_text_in_it(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps.llm")
    engine, _ = await harness.start()
    await read(engine, harness.request(" confidential", 4, request_id="req-1"))
    lines = [record.getMessage() for record in caplog.records if "req-1" in record.getMessage()]
    assert len(lines) == 1
    assert "reason=length prompt_tokens=1 completion_tokens=4 queued_s=" in lines[0]
    assert "confidential" not in caplog.text
