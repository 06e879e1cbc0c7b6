"""The wrapper that all engine tests rely on: each rule of the contract, broken once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from serve_apps.llm.runners import Prefill, Row, Sampled, SamplingParams
from serve_apps.llm.runners.checked import CheckedRunner, ContractError
from tests.echo_runner import EchoRunner, capabilities

GREEDY = SamplingParams(temperature=0)


def prompt(slot: int, length: int = 3) -> Prefill:
    return Prefill(slot, tuple(range(10, 10 + length)), GREEDY)


def loaded() -> CheckedRunner:
    limits = capabilities(slots=4, max_len=16, prefill_rows=2, prefill_tokens=8)
    runner = CheckedRunner(EchoRunner(limits))
    runner.load()
    return runner


def with_two_live_slots() -> CheckedRunner:
    """Slots 0 and 2 hold [10, 11, 12] and have sampled 10."""
    runner = loaded()
    runner.prefill([prompt(0), prompt(2)])
    return runner


def test_a_caller_that_keeps_the_rules_notices_nothing() -> None:
    runner = with_two_live_slots()
    assert runner.decode([Row(0, 10, 3), Row(2, 10, 3)]) == [Sampled(11), Sampled(11)]
    runner.release(0)
    assert runner.decode([Row(2, 11, 4)]) == [Sampled(12)]
    runner.prefill([prompt(0, length=15)])
    runner.close()


BROKEN: dict[str, tuple[Callable[[CheckedRunner], object], str]] = {
    "a second load": (lambda runner: runner.load(), "load was called a second time"),
    "prefill of nothing": (lambda runner: runner.prefill([]), "prefill of nothing"),
    "more rows than a step takes": (
        lambda runner: runner.prefill([prompt(0), prompt(1), prompt(2)]),
        "3 prompts, the limit is 2",
    ),
    "more tokens than a step takes": (
        lambda runner: runner.prefill([prompt(0, 5), prompt(1, 4)]),
        "9 tokens together, the limit is 8",
    ),
    "one slot for two prompts": (
        lambda runner: runner.prefill([prompt(1), prompt(1)]),
        "names a slot twice",
    ),
    "a slot that does not exist": (lambda runner: runner.prefill([prompt(4)]), "outside 0..3"),
    "a negative slot": (lambda runner: runner.prefill([prompt(-1)]), "outside 0..3"),
    "an empty prompt": (lambda runner: runner.prefill([prompt(0, 0)]), "prompt of 0 tokens"),
    "a prompt that leaves no room": (lambda runner: runner.prefill([prompt(0, 16)]), "prompt of 16 tokens"),
    "decode before any prefill": (lambda runner: runner.decode([Row(0, 10, 3)]), "live are []"),
    "release of a free slot": (lambda runner: runner.release(0), "slot 0, which is not live"),
}

BROKEN_WITH_LIVE_SLOTS: dict[str, tuple[Callable[[CheckedRunner], object], str]] = {
    "prefill into a live slot": (lambda runner: runner.prefill([prompt(2)]), "slot 2, which is live"),
    "decode of nothing": (lambda runner: runner.decode([]), "decode of nothing"),
    "a live slot left out": (lambda runner: runner.decode([Row(0, 10, 3)]), "decode of slots [0]"),
    "slots in descending order": (
        lambda runner: runner.decode([Row(2, 10, 3), Row(0, 10, 3)]),
        "decode of slots [2, 0]",
    ),
    "a token that was not sampled": (
        lambda runner: runner.decode([Row(0, 11, 3), Row(2, 10, 3)]),
        "slot 0: the row's token is not the one",
    ),
    "a position left out": (
        lambda runner: runner.decode([Row(0, 10, 3), Row(2, 10, 4)]),
        "slot 2: position 4, expected 3",
    ),
}


@pytest.mark.parametrize(("call", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_caught(call: Callable[[CheckedRunner], object], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        call(loaded())
    assert message in str(caught.value)


@pytest.mark.parametrize(("call", "message"), BROKEN_WITH_LIVE_SLOTS.values(), ids=BROKEN_WITH_LIVE_SLOTS)
def test_a_broken_rule_about_live_slots_is_caught(
    call: Callable[[CheckedRunner], object], message: str
) -> None:
    with pytest.raises(ContractError) as caught:
        call(with_two_live_slots())
    assert message in str(caught.value)


def test_a_position_beyond_the_slot_is_caught() -> None:
    runner = loaded()
    ids = tuple(range(10, 25))
    runner.prefill([Prefill(0, ids, GREEDY)])
    runner.decode([Row(0, 10, 15)])
    with pytest.raises(ContractError, match="position 16 is outside a slot of 16"):
        runner.decode([Row(0, 11, 16)])


@pytest.mark.parametrize(
    "call",
    [
        lambda runner: runner.prefill([prompt(0)]),
        lambda runner: runner.decode([Row(0, 10, 3)]),
        lambda runner: runner.release(0),
        lambda runner: runner.close(),
    ],
    ids=["prefill", "decode", "release", "close"],
)
def test_every_call_before_load_and_after_close_is_caught(call: Callable[[CheckedRunner], object]) -> None:
    with pytest.raises(ContractError, match="before load"):
        call(CheckedRunner(EchoRunner(capabilities())))
    runner = loaded()
    runner.close()
    with pytest.raises(ContractError, match="after close"):
        call(runner)


def test_a_call_from_another_thread_is_caught() -> None:
    runner = loaded()
    caught: list[ContractError] = []

    def prefill_elsewhere() -> None:
        try:
            runner.prefill([prompt(0)])
        except ContractError as error:
            caught.append(error)

    thread = threading.Thread(target=prefill_elsewhere)
    thread.start()
    thread.join()
    assert "another thread" in str(caught[0])


def test_a_runner_that_returns_too_few_tokens_is_caught() -> None:
    class Forgetful(EchoRunner):
        def prefill(self, items: Sequence[Prefill]) -> list[Sampled]:
            return super().prefill(items)[:-1]

        def decode(self, rows: Sequence[Row]) -> list[Sampled]:
            return super().decode(rows)[:-1]

    runner = CheckedRunner(Forgetful(capabilities()))
    runner.load()
    with pytest.raises(ContractError, match="prefill of 2 prompts gave 1 tokens"):
        runner.prefill([prompt(0), prompt(1)])
