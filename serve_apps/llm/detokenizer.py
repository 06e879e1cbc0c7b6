"""Token ids of one answer into text that can be sent: incrementally, and never to be taken back.

Text is final when no later token can change it: whole characters only, no special tokens, and no suffix
that might be the beginning of a stop string. An answer that ends inside a character (`max_tokens` cut it)
loses that character's bytes rather than showing a replacement character.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Feed it every token of an answer with `push`, then call `flush` once; concatenate what they return."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._decoded = ""
        self._stop = StopFinder(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer; the text before it has been returned."""
        return self._stop.found

    def push(self, token: int) -> str:
        """The text that this token made final, often empty."""
        self._ids.append(token)
        text = self._step(token)
        self._decoded += text
        return self._stop.push(text)

    def flush(self) -> str:
        """What was still held back, now that the answer is complete.

        `DecodeStream` cannot be asked for what it holds, so this is the difference to decoding everything.
        """
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=True).rstrip(_REPLACEMENT)
        rest = whole[len(self._decoded) :] if whole.startswith(self._decoded) else ""
        return self._stop.push(rest) + self._stop.flush()

    def _step(self, token: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception:
            # With a byte-fallback vocabulary, bytes that are no UTF-8 can change how earlier ones decode;
            # the stream then raises. What was sent stays sent, and decoding starts afresh at this token.
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""


class StopFinder:
    """Passes text through up to the first stop string, however the text is cut into pieces.

    The first is the one that is complete first; of two that end together, the longer.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is certainly before any stop string."""
        if self.found:
            return ""
        text = self._held + text
        matches = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if matches:
            self.found, self._held = True, ""
            return text[: min(matches)[1]]
        keep = self._longest_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The held text: it was not the beginning of a stop string after all."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(self._beginnings(n))), 0)

    def _beginnings(self, length: int) -> tuple[str, ...]:
        return tuple(stop[:length] for stop in self._stop if len(stop) > length)
