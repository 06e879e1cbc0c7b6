"""Text must be final when it is sent: whole characters, no special tokens, nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from serve_apps.llm.detokenizer import Detokenizer, StopFinder

LANGUAGES = "Grüße aus 東京 — 안녕하세요, привет! 👩‍👩‍👧‍👦🏳️‍🌈 and e\u0301 ﷽ 🇯🇵"

SPACE, LETTER_A, LETTER_B = 257, 258, 259  # of the byte-fallback vocabulary


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model_dir / "tokenizer.json"))


@pytest.fixture(scope="module")
def byte_fallback() -> Tokenizer:
    """The kind of vocabulary that Llama 2 and Mistral have: characters it lacks are spelt in bytes."""
    vocab = {"<unk>": 0, "▁": SPACE, "a": LETTER_A, "b": LETTER_B}
    vocab |= {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def deltas(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], bool]:
    """What is sent for `ids` when the engine stops at the first stop string."""
    detokenizer = Detokenizer(tokenizer, stop)
    sent: list[str] = []
    for token in ids:
        sent.append(detokenizer.push(token))
        if detokenizer.stopped:
            break
    sent.append(detokenizer.flush())
    return sent, detokenizer.stopped


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """`text` before the stop string that is complete first, found one character at a time."""
    for end in range(len(text) + 1):
        endings = [ending for ending in stop if text[:end].endswith(ending)]
        if endings:
            return text[: end - max(map(len, endings))], True
    return text, False


def spelt(text: str) -> list[int]:
    """`text` in byte tokens of the byte-fallback vocabulary."""
    return [byte + 1 for byte in text.encode()]


words = st.text(alphabet="ab\n 東京é👩🏽\u200d", max_size=12)
stops = st.lists(st.text(alphabet="ab\n 東👩", min_size=1, max_size=3), max_size=3)


@settings(max_examples=300, deadline=None)
@given(text=words, stop=stops)
def test_the_deltas_are_the_text_up_to_the_first_stop_string(
    tokenizer: Tokenizer, text: str, stop: list[str]
) -> None:
    sent, stopped = deltas(tokenizer, tokenizer.encode(text).ids, stop)
    assert ("".join(sent), stopped) == cut(text, stop)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 49_151) | st.integers(0, 300), max_size=40), stop=stops)
def test_any_tokens_at_all_give_their_full_decode(
    tokenizer: Tokenizer, ids: list[int], stop: list[str]
) -> None:
    whole = tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
    sent, stopped = deltas(tokenizer, ids, stop)
    assert ("".join(sent), stopped) == cut(whole, stop)


def test_text_in_many_scripts_arrives_whole_and_before_the_end(tokenizer: Tokenizer) -> None:
    sent, _ = deltas(tokenizer, tokenizer.encode(LANGUAGES).ids)
    assert "".join(sent) == LANGUAGES
    assert sent[-1] == ""
    assert sum(map(bool, sent)) > 20


def test_an_answer_cut_inside_a_character_loses_only_that_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 👩").ids
    for end in range(1, len(ids)):
        assert "".join(deltas(tokenizer, ids[:end])[0]) in ("ok", "ok ")


def test_a_stop_string_that_only_the_end_reveals_is_cut_too(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 👩").ids[:2]  # "ok", then a space with the first bytes of a character
    assert deltas(tokenizer, ids) == (["ok", "", " "], False)
    assert deltas(tokenizer, ids, ["k "]) == (["o", "", ""], True)


def test_special_tokens_never_become_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>assistant\nParis<|im_end|>\n<|endoftext|>").ids
    assert "".join(deltas(tokenizer, ids)[0]) == "assistant\nParis\n"


def test_a_stop_string_that_spans_tokens_is_held_back_and_never_sent(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.token_to_id(token) for token in ("one", "Ġtwo", "Ġthree", "Ġfour")]
    sent, stopped = deltas(tokenizer, ids, ["two thr"])
    assert (sent, stopped) == (["one", " ", "", ""], True)


def test_what_was_held_back_is_sent_once_it_is_no_stop_string(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.token_to_id(token) for token in ("one", "Ġtwo", "Ġfour", "Ġtwo")]
    sent, stopped = deltas(tokenizer, ids, ["two three"])
    assert (sent, stopped) == (["one", " ", "two four", " ", "two"], False)


@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        (["b", "abc"], "xabc", "xa"),
        (["b", "ab"], "xab", "x"),
        (["aab"], "aaab", "a"),
        (["\n\n"], "a\n\n\nb", "a"),
        (["abab", "bb"], "abaabab", "aba"),
        (["a"], "a", ""),
    ],
)
def test_the_stop_string_that_is_complete_first_wins(stop: list[str], text: str, expected: str) -> None:
    for width in range(1, len(text) + 1):
        finder = StopFinder(stop)
        pieces = [text[start : start + width] for start in range(0, len(text), width)]
        assert "".join(map(finder.push, pieces)) == expected
        assert finder.found


def test_a_byte_fallback_vocabulary_streams_whole_characters(byte_fallback: Tokenizer) -> None:
    ids = [SPACE, LETTER_A, *spelt("東京👩"), LETTER_B]
    assert "".join(deltas(byte_fallback, ids)[0]) == "a東京👩b"


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.sampled_from([LETTER_A, LETTER_B, *spelt("東👩é")]), max_size=30))
def test_bytes_that_are_no_character_never_raise_and_take_no_letter_along(
    byte_fallback: Tokenizer, ids: list[int]
) -> None:
    sent = "".join(deltas(byte_fallback, ids)[0])
    letters = [{LETTER_A: "a", LETTER_B: "b"}.get(token, "") for token in ids]
    assert "".join(letter for letter in sent if letter in "ab") == "".join(letters)
