"""Every rule of the contract, broken twice.

On the strict emulator the breach raises. On the lenient one it is answered as the library would answer it:
the text that follows is wrong where hardware would have corrupted it, or the library's own error comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.neuron.conftest import edit_config, generated, save_tiny_model

SLOTS, LONGEST = 3, 32
PROMPTS = {0: [5, 6, 7, 8], 1: [50, 40, 30], 2: [9, 9, 1, 2, 3]}
TOKENS = 6


class Driver:
    """Greedy answers in several slots, and the model itself for calls that nobody should make."""

    def __init__(self, library: Any, directory: Path, **options: Any) -> None:
        self.library = library
        self.generation = options.pop("generation", None)
        config = library.NeuronConfig(
            continuous_batching=library.ContinuousBatchingConfig(batch_size_for_shared_caches=SLOTS),
            on_device_generation=self.generation,
        )
        given = {"n_positions": [LONGEST], "context_length_estimate": [8, LONGEST]}
        self.model = library.NeuronAutoModelForCausalLM.from_pretrained(
            str(directory), batch_size=SLOTS, amp="f32", neuron_config=config, **{**given, **options}
        )
        self.texts: dict[int, list[int]] = {}

    def start(self, *slots: int) -> Driver:
        self.model.to_neuron()
        for slot in slots:
            self.prefill(slot)
        return self

    def call(self, ids: Any, cache_ids: Any, start_ids: Any, dtype: Any = torch.int64) -> torch.Tensor:
        return self.model(*(torch.tensor(values, dtype=dtype) for values in (ids, cache_ids, start_ids)))

    def prefill(self, slot: int) -> None:
        prompt = PROMPTS[slot]
        output = self.call([prompt], [[*range(len(prompt))]], [slot])
        self.texts[slot] = [int(self.tokens(output)[0])]

    def decode(self, *slots: int, skip: int = 0) -> None:
        ids = [[self.texts[slot][-1]] for slot in slots]
        positions = [[len(PROMPTS[slot]) + len(self.texts[slot]) - 1 + skip] for slot in slots]
        for slot, token in zip(slots, self.tokens(self.call(ids, positions, [*slots])), strict=True):
            self.texts[slot].append(int(token))

    def finish(self) -> dict[int, list[int]]:
        while any(len(text) < TOKENS for text in self.texts.values()):
            self.decode(*sorted(self.texts))
        return {slot: text[:TOKENS] for slot, text in self.texts.items()}

    def tokens(self, output: torch.Tensor) -> torch.Tensor:
        return output.flatten() if self.generation else output.argmax(-1)


def right(directory: Path, slot: int) -> list[int]:
    return generated(directory, PROMPTS[slot], TOKENS)


# --- what corrupts text without an error: how it is broken, and whose text is wrong then ------------------


def leave_out_a_live_slot(driver: Driver) -> None:
    driver.start(0, 1)
    driver.decode(1)


def leave_a_gap_between_decodes(driver: Driver) -> None:
    driver.start(0)
    driver.decode(0, skip=1)


def leave_a_gap_in_a_prompt(driver: Driver) -> None:
    driver.start(1)
    output = driver.call([PROMPTS[0]], [[0, 1, 2, 6]], [0])
    driver.texts[0] = [int(output.argmax())]


def prefill_a_slot_that_is_not_there(driver: Driver) -> None:
    driver.start(0, 1)
    driver.call([PROMPTS[2]], [[*range(5)]], [SLOTS])


def name_a_slot_twice(driver: Driver) -> None:
    driver.start(0, 1)
    twice = driver.call([[driver.texts[0][-1]], [driver.texts[1][-1]]], [[4], [3]], [0, 0])
    driver.texts[0].append(int(twice[0].argmax()))


def pass_one_token_as_it_is(driver: Driver) -> None:
    driver.start(0, 1)
    driver.call([[7]], [[0]], [2])


def decode_a_slot_that_was_never_prefilled(driver: Driver) -> None:
    driver.start(1)
    driver.texts[0] = right(driver.model.directory, 0)[:1]
    driver.decode(0, 1)


SILENT: list[tuple[Callable[[Driver], None], int, str]] = [
    (leave_out_a_live_slot, 0, "slot 0 was left out of a decode"),
    (leave_a_gap_between_decodes, 0, "slot 0: position 5 after 3"),
    (leave_a_gap_in_a_prompt, 0, "positions of a prefill"),
    (prefill_a_slot_that_is_not_there, 0, "slot 3 is outside 0..2"),
    (name_a_slot_twice, 0, "a slot is named twice"),
    (pass_one_token_as_it_is, 0, "slot 2 was never prefilled"),
    (decode_a_slot_that_was_never_prefilled, 0, "slot 0 was never prefilled"),
]


@pytest.mark.parametrize(
    ("breach", "victim", "words"), SILENT, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_silent_breach_raises_in_strict_mode(
    emulator: Any, tiny_llama: Path, breach: Callable[[Driver], None], victim: int, words: str
) -> None:
    def run() -> None:
        driver = Driver(emulator, tiny_llama)
        breach(driver)
        driver.finish()

    with pytest.raises(emulator.ContractError, match=words):
        run()


@pytest.mark.parametrize(
    ("breach", "victim", "words"), SILENT, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_silent_breach_spoils_the_text_of_its_victim(
    emulator: Any, lenient: None, tiny_model: Path, breach: Callable[[Driver], None], victim: int, words: str
) -> None:
    driver = Driver(emulator, tiny_model)
    breach(driver)
    said = driver.finish()
    assert said[victim] != right(tiny_model, victim)
    bystanders = {slot: text for slot, text in said.items() if slot != victim}
    if breach not in (pass_one_token_as_it_is, name_a_slot_twice):  # these leave out the others as well
        assert bystanders == {slot: right(tiny_model, slot) for slot in bystanders}


def test_free_slots_other_orders_and_reuse_do_no_harm(emulator: Any, tiny_model: Path) -> None:
    driver = Driver(emulator, tiny_model).start(2, 0)
    driver.decode(2, 0)
    driver.prefill(1)
    driver.decode(1, 0, 2)
    del driver.texts[0]
    driver.decode(2, 1)
    driver.prefill(0)
    assert driver.finish() == {slot: right(tiny_model, slot) for slot in (0, 1, 2)}


# --- what the library raises by itself --------------------------------------------------------------------


def too_long_a_prompt(driver: Driver) -> None:
    driver.start().call([[1] * (LONGEST + 1)], [[*range(LONGEST + 1)]], [0])


def beyond_the_last_position(driver: Driver) -> None:
    driver.start(0)
    driver.decode(0, skip=LONGEST)


def decode_a_slot_that_is_not_there(driver: Driver) -> None:
    driver.start(0).call([[1]], [[4]], [SLOTS])


def cache_ids_of_another_type(driver: Driver) -> None:
    driver.start(0)
    driver.model(torch.tensor([[1]]), torch.tensor([[4]], dtype=torch.int32), torch.tensor([0]))


def cache_ids_without_rows(driver: Driver) -> None:
    driver.start().call([PROMPTS[0]], [0, 1, 2, 3], [0])


def two_prompts_in_one_call(driver: Driver) -> None:
    driver.start().call([[1, 2], [3, 4]], [[0, 1], [0, 1]], [0, 1])


def a_prompt_and_a_decode_in_one_call(driver: Driver) -> None:
    driver.start(0).call([[1, 2], [3, 0]], [[0, 1], [4, 0]], [1, 0])


def a_prompt_that_starts_later(driver: Driver) -> None:
    driver.start().call([[1, 2]], [[3, 4]], [0])


@pytest.mark.parametrize(
    ("breach", "error"),
    [
        (too_long_a_prompt, AssertionError),
        (beyond_the_last_position, StopIteration),
        (decode_a_slot_that_is_not_there, RuntimeError),
        (cache_ids_of_another_type, RuntimeError),
        (cache_ids_without_rows, IndexError),
        (two_prompts_in_one_call, RuntimeError),
        (a_prompt_and_a_decode_in_one_call, RuntimeError),
        (a_prompt_that_starts_later, AssertionError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_loud_breach_raises_in_both_modes(
    emulator: Any,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    breach: Callable[[Driver], None],
    error: type[Exception],
) -> None:
    with pytest.raises(emulator.ContractError):
        breach(Driver(emulator, tiny_llama))
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    with pytest.raises(error) as raised:
        breach(Driver(emulator, tiny_llama))
    assert not isinstance(raised.value, emulator.ContractError)


def test_int32_is_a_breach_that_the_library_forgives(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prefill() -> torch.Tensor:
        return Driver(emulator, tiny_llama).start().call([PROMPTS[0]], [[0, 1, 2, 3]], [0], torch.int32)

    with pytest.raises(emulator.ContractError, match="must be int64"):
        prefill()
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    assert int(prefill().argmax()) == right(tiny_llama, 0)[0]


def test_another_thread_is_a_breach_of_our_own(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere() -> list[BaseException]:
        driver, raised = Driver(emulator, tiny_llama).start(0), []

        def decode() -> None:
            try:
                driver.decode(0)
            except AssertionError as error:
                raised.append(error)

        thread = threading.Thread(target=decode)
        thread.start()
        thread.join()
        return raised

    (raised,) = elsewhere()
    assert "another thread" in str(raised)
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    assert not elsewhere()


# --- construction -----------------------------------------------------------------------------------------


def test_a_keyword_that_is_not_known_is_ignored_or_a_breach(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(emulator.ContractError, match=r"ignores \['n_position'\]"):
        Driver(emulator, tiny_llama, n_position=[16])
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    assert Driver(emulator, tiny_llama, n_position=[16]).model.token_buckets == [LONGEST]


def test_a_config_keyword_that_is_not_known_raises(emulator: Any) -> None:
    with pytest.raises(AssertionError, match="fuse_qkw"):
        emulator.NeuronConfig(fuse_qkw=True)
    with pytest.raises(AssertionError, match="slots"):
        emulator.ContinuousBatchingConfig(batch_size_for_shared_caches=2, slots=3)


def test_buckets_that_the_library_cannot_use_are_refused(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="longer than n_positions"):
        Driver(emulator, tiny_llama, context_length_estimate=[LONGEST + 1])
    with pytest.raises(TypeError):
        Driver(emulator, tiny_llama, context_length_estimate=0)
    with pytest.raises(emulator.ContractError, match="not ascending and unique"):
        Driver(emulator, tiny_llama, n_positions=[16, 16, 32]).start()
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    with pytest.raises(AttributeError):
        Driver(emulator, tiny_llama, context_length_estimate=[8, 8]).start()


def test_a_model_cannot_be_called_before_it_is_on_the_device(emulator: Any, tiny_llama: Path) -> None:
    driver = Driver(emulator, tiny_llama)
    with pytest.raises(AssertionError, match="to_neuron was not called"):
        driver.prefill(0)


# --- sampling on the device -------------------------------------------------------------------------------


def sampling_config(library: Any, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "do_sample": True,
        "dynamic": True,
        "per_batch_line": True,
        "global_top_k": 64,
        "top_k": [1] * SLOTS,
        "top_p": [1.0] * SLOTS,
        "temperature": [1.0] * SLOTS,
    }
    return library.GenerationConfig(**{**given, **changes})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": [0.0] * SLOTS}, "divides by zero"),
        ({"top_k": [0] * SLOTS}, r"top_k 0 is outside 1..64"),
    ],
    ids=["temperature 0", "top_k 0"],
)
def test_parameters_that_a_graph_cannot_compute_with(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    def said() -> dict[int, list[int]]:
        driver = Driver(emulator, tiny_llama, generation=sampling_config(emulator)).start()
        driver.model.update_generation_config(sampling_config(emulator, **change))
        driver.prefill(0)
        return driver.finish()

    with pytest.raises(emulator.ContractError, match=words):
        said()
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    assert said() != {0: right(tiny_llama, 0)}


def test_the_config_that_was_traced_is_of_no_use_any_more(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reuse() -> None:
        driver = Driver(emulator, tiny_llama, generation=sampling_config(emulator)).start()
        driver.model.update_generation_config(driver.generation)

    with pytest.raises(emulator.ContractError, match="is a handle now"):
        reuse()
    monkeypatch.setenv("TNX_EMULATOR_STRICT", "0")
    with pytest.raises((TypeError, RuntimeError)):
        reuse()


def test_an_own_copy_of_the_config_works(emulator: Any, tiny_llama: Path) -> None:
    driver = Driver(emulator, tiny_llama, generation=sampling_config(emulator)).start()
    driver.model.update_generation_config(sampling_config(emulator))
    driver.prefill(0)
    assert driver.finish() == {0: right(tiny_llama, 0)}


# --- the trap in config.json ------------------------------------------------------------------------------


def test_without_rope_theta_every_text_is_wrong_and_nothing_raises(emulator: Any, tmp_path: Path) -> None:
    save_tiny_model(tmp_path, "llama")
    expected = right(tmp_path, 0)
    assert Driver(emulator, tmp_path).start(0).finish() == {0: expected}
    edit_config(tmp_path, rope_theta=None)
    assert Driver(emulator, tmp_path).start(0).finish() != {0: expected}
