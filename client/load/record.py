"""What is kept of one request."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Record:
    """Times are seconds after the start of the test; None is "never".

    Every latency counts from `intended_s`, when the request was meant to be sent, not from when it was. A
    server that stalls delays what comes after, and users feel that; counting from `sent_s` would leave it out
    (coordinated omission).

    `model` and `finish_reason` are what the answer says.
    """

    intended_s: float
    sent_s: float
    first_s: float | None = None
    last_s: float | None = None
    done_s: float | None = None
    pieces: int = 0
    longest_gap_s: float = 0.0
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    model: str | None = None
    finish_reason: str | None = None
    error: str | None = field(default="unfinished")

    @property
    def ok(self) -> bool:
        """Whether the whole answer came."""
        return self.error is None

    @property
    def late_s(self) -> float:
        """How much later than meant this client sent it: its own fault."""
        return self.sent_s - self.intended_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token."""
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def latency_s(self) -> float | None:
        """Time to the end of the answer."""
        return None if self.done_s is None else self.done_s - self.intended_s

    @property
    def tokens(self) -> int:
        """Tokens of the answer so far; pieces of the stream where the API has not said."""
        return self.pieces if self.answer_tokens is None else self.answer_tokens

    @property
    def inter_token_s(self) -> float | None:
        """Mean time between tokens after the first; None for an answer of one token."""
        if self.first_s is None or self.last_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    def piece(self, now_s: float) -> None:
        """A piece of the answer came."""
        if self.last_s is None:
            self.first_s = now_s
        else:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_s)
        self.last_s = now_s
        self.pieces += 1
