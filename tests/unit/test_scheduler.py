"""The scheduler, driven as the engine drives it, against a runner that asserts its contract."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serve_apps.llm.admission import InvalidRequestError
from serve_apps.llm.engine import GenerationRequest
from serve_apps.llm.runners import Capabilities, Sampled
from serve_apps.llm.runners.checked import CheckedRunner
from serve_apps.llm.scheduler import Output, Plan, QueueFullError, Scheduler
from tests.echo_runner import EchoRunner, capabilities

EOS = 9
WORD = 5
FOREVER = float("inf")


def request(prompt: int = 4, max_tokens: int = 8, *, ignore_eos: bool = False) -> GenerationRequest:
    return GenerationRequest("r", (WORD,) * prompt, max_tokens, ignore_eos=ignore_eos)


def scheduler(limits: Capabilities | None = None, max_queue: int = 100) -> Scheduler[str]:
    return Scheduler(limits or capabilities(), eos_ids={EOS}, max_queue=max_queue)


def step(machine: Scheduler[str], token: int = WORD) -> tuple[Plan, list[Output[str]]]:
    plan = machine.schedule()
    return plan, machine.update(plan, [Sampled(token)] * len(plan.prefill or plan.decode))


class Engine(RuleBasedStateMachine):
    """Adds, cancels, expires and steps in any order; every promise is asserted at each step."""

    @initialize(
        slots=st.integers(1, 4),
        rows=st.integers(1, 4),
        tokens=st.integers(4, 24),
        max_queue=st.integers(0, 5),
    )
    def start(self, slots: int, rows: int, tokens: int, max_queue: int) -> None:
        self.limits = capabilities(slots=slots, max_len=32, prefill_rows=rows, prefill_tokens=tokens)
        self.max_queue = max_queue
        self.scheduler: Scheduler[int] = Scheduler(self.limits, eos_ids={EOS}, max_queue=max_queue)
        self.runner = CheckedRunner(EchoRunner(self.limits))
        self.runner.load()
        self.keys = count()
        self.now = 0.0
        self.requests: dict[int, GenerationRequest] = {}
        self.deadlines: dict[int, float] = {}
        self.waiting: list[int] = []
        self.running: dict[int, int] = {}  # key -> tokens so far
        self.streams_waited = False

    @rule(prompt=st.integers(0, 40), max_tokens=st.integers(0, 20), life=st.integers(1, 12))
    def add(self, prompt: int, max_tokens: int, life: int) -> None:
        key = next(self.keys)
        ids = tuple(1000 * (key + 1) + position for position in range(prompt))
        asked = GenerationRequest(str(key), ids, max_tokens)
        fits = prompt >= 1 and max_tokens >= 1 and prompt + max_tokens <= self.limits.max_len
        full = len(self.waiting) >= self.max_queue + self.limits.slots - len(self.running)
        if not fits or full:
            with pytest.raises(QueueFullError if fits else InvalidRequestError):
                self.scheduler.add(key, asked, self.now + life)
            return
        self.scheduler.add(key, asked, self.now + life)
        self.requests[key], self.deadlines[key] = asked, self.now + life
        self.waiting.append(key)

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.deadlines)))
        assert self.scheduler.cancel(key)
        assert not self.scheduler.cancel(key)
        self.forget(key)

    @rule(passed=st.integers(0, 4))
    def expire(self, passed: int) -> None:
        self.now += passed
        late = {key for key, deadline in self.deadlines.items() if deadline <= self.now}
        assert set(self.scheduler.expire(self.now)) == late
        for key in late:
            self.forget(key)

    @rule(data=st.data())
    def take_a_step(self, data: st.DataObject) -> None:
        plan = self.scheduler.schedule()
        assert not (plan.prefill and plan.decode)
        assert bool(plan.prefill or plan.decode) == bool(self.waiting or self.running)
        prefilled = self.check_prefill(plan)
        if plan.decode:
            assert len(plan.decode) == len(self.running)
        self.streams_waited = bool(plan.prefill and len(self.running) > len(prefilled))
        self.take_in(plan, self.carry_out(plan), data)

    def carry_out(self, plan: Plan) -> list[Sampled]:
        """The checked runner refuses a slot used twice, a live slot left out, a wrong token or position."""
        for slot in plan.release:
            self.runner.release(slot)
        if plan.prefill:
            return self.runner.prefill(plan.prefill)
        return self.runner.decode(plan.decode) if plan.decode else []

    def check_prefill(self, plan: Plan) -> list[int]:
        """First come, first served, as many as fit; and never twice in a row while streams wait."""
        if plan.prefill and self.running:
            assert not self.streams_waited
        taken, self.waiting = self.waiting[: len(plan.prefill)], self.waiting[len(plan.prefill) :]
        assert [item.ids for item in plan.prefill] == [self.requests[key].prompt_ids for key in taken]
        self.running.update(dict.fromkeys(taken, 0))
        room = len(plan.prefill) < self.limits.prefill_rows and len(self.running) < self.limits.slots
        if plan.prefill and room and self.waiting:
            tokens = sum(len(item.ids) for item in plan.prefill)
            assert tokens + len(self.requests[self.waiting[0]].prompt_ids) > self.limits.prefill_tokens
        return taken

    def take_in(self, plan: Plan, sampled: list[Sampled], data: st.DataObject) -> None:
        ends = data.draw(st.lists(st.integers(0, 3), min_size=len(sampled), max_size=len(sampled)))
        said = [Sampled(EOS) if end == 0 else token for end, token in zip(ends, sampled, strict=True)]
        outputs = self.scheduler.update(plan, said)
        assert [output.token for output in outputs] == [token.token for token in said]
        for output in outputs:
            self.running[output.key] += 1
            complete = self.running[output.key] == self.requests[output.key].max_tokens
            expected = "stop" if output.token == EOS else "length" if complete else None
            assert output.finish == expected
            if expected:
                self.forget(output.key)

    def forget(self, key: int) -> None:
        del self.deadlines[key]
        self.running.pop(key, None)
        if key in self.waiting:
            self.waiting.remove(key)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "scheduler"):
            assert self.scheduler.slots_in_use == len(self.running)
            assert self.scheduler.queued == len(self.waiting)


class TestAnyOrderOfEvents(Engine.TestCase):
    settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_requests_that_wait_together_share_a_prefill() -> None:
    machine = scheduler()
    for key in "abc":
        machine.add(key, request(prompt=8), FOREVER)
    plan, outputs = step(machine)
    assert [item.slot for item in plan.prefill] == [0, 1, 2]
    assert [output.key for output in outputs] == ["a", "b", "c"]


def test_a_prompt_longer_than_the_budget_takes_a_step_of_its_own() -> None:
    machine = scheduler(capabilities(prefill_tokens=10))
    for key, prompt in [("a", 4), ("long", 30), ("b", 4)]:
        machine.add(key, request(prompt), FOREVER)
    keys = [[output.key for output in step(machine)[1]] for _ in range(5)]
    assert keys == [["a"], ["long"], ["a", "long"], ["b"], ["a", "long", "b"]]


def test_between_two_decodes_of_a_stream_lies_at_most_one_prefill() -> None:
    machine = scheduler(capabilities(slots=4, prefill_rows=1))
    for key in "abcd":
        machine.add(key, request(), FOREVER)
    kinds = ["prefill" if step(machine)[0].prefill else "decode" for _ in range(7)]
    assert kinds == ["prefill", "prefill", "decode", "prefill", "decode", "prefill", "decode"]


def test_a_decode_that_is_due_does_not_block_the_queue_when_its_streams_are_gone() -> None:
    machine = scheduler(capabilities(slots=2, prefill_rows=1))
    for key in "abc":
        machine.add(key, request(), FOREVER)
    step(machine)
    step(machine)
    machine.cancel("a")
    machine.cancel("b")
    plan, outputs = step(machine)
    assert sorted(plan.release) == [0, 1]
    assert [output.key for output in outputs] == ["c"]


def test_a_cancelled_request_frees_its_slot_for_the_next_plan() -> None:
    machine = scheduler(capabilities(slots=1))
    machine.add("a", request(), FOREVER)
    machine.add("b", request(), FOREVER)
    step(machine)
    machine.cancel("a")
    plan, outputs = step(machine)
    assert plan.release == (0,)
    assert [output.key for output in outputs] == ["b"]


def test_a_released_slot_is_announced_even_when_nothing_else_is_to_do() -> None:
    machine = scheduler()
    machine.add("a", request(max_tokens=1), FOREVER)
    assert step(machine)[1] == [Output("a", WORD, "length")]
    assert machine.schedule() == Plan(release=(0,))
    assert not machine.schedule()


def test_positions_run_from_the_prompt_to_the_end_of_the_slot() -> None:
    machine = scheduler(capabilities(max_len=16))
    machine.add("a", request(prompt=12, max_tokens=4), FOREVER)
    plans = [step(machine)[0] for _ in range(4)]
    assert [plan.decode[0].position for plan in plans[1:]] == [12, 13, 14]
    assert machine.slots_in_use == 0


def test_ignore_eos_generates_to_the_full_length() -> None:
    machine = scheduler()
    machine.add("a", request(max_tokens=2, ignore_eos=True), FOREVER)
    assert step(machine, EOS)[1] == [Output("a", EOS, None)]
    assert step(machine, EOS)[1] == [Output("a", EOS, "length")]


def test_without_a_queue_only_as_many_requests_are_taken_as_slots_are_free() -> None:
    machine = scheduler(capabilities(slots=2), max_queue=0)
    machine.add("a", request(), FOREVER)
    machine.add("b", request(), FOREVER)
    with pytest.raises(QueueFullError):
        machine.add("c", request(), FOREVER)
    step(machine)
    with pytest.raises(QueueFullError):
        machine.add("d", request(), FOREVER)
