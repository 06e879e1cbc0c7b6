"""An engine's answer as the bodies and server-sent events that OpenAI's clients read.

The types are the `openai` package's own. A stream sends the same JSON object for every piece of text, so it
is built and serialised once a request, and a piece costs one `json.dumps` of a short string.
"""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from openai import BaseModel
from openai.types import Completion, CompletionChoice, CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from serve_apps.llm.engine import Finished

DONE = b"data: [DONE]\n\n"


def usage_of(finished: Finished) -> CompletionUsage:
    """Token counts in the clients' terms."""
    return CompletionUsage(
        prompt_tokens=finished.prompt_tokens,
        completion_tokens=finished.completion_tokens,
        total_tokens=finished.prompt_tokens + finished.completion_tokens,
    )


def server_sent_event(data: Mapping[str, object]) -> bytes:
    """One event of a stream. ASCII only: some clients break lines at characters like U+2028."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n\n"


class Answer(ABC):
    """The answer to one request, in one piece (`whole`) or in events (`opening`, `piece` …, `closing`)."""

    _ID_PREFIX: str

    def __init__(self, model: str, release: str | None, *, include_usage: bool) -> None:
        self.id = f"{self._ID_PREFIX}-{uuid.uuid4().hex}"
        self._envelope: dict[str, Any] = {"id": self.id, "created": int(time.time()), "model": model}
        if release is not None:
            self._envelope["system_fingerprint"] = release
        self._include_usage = include_usage

    @abstractmethod
    def whole(self, text: str, finished: Finished) -> BaseModel:
        """The body of an answer that is not streamed."""

    @abstractmethod
    def _chunk(self, text: str | None, reason: str | None) -> BaseModel:
        """The object of one event: a piece of text, or the reason why there is no more."""

    @abstractmethod
    def _usage_chunk(self, usage: CompletionUsage) -> BaseModel:
        """The object of the event that counts tokens: it has no choices."""

    def opening(self) -> bytes:
        """What a stream sends before the first piece of text."""
        return b""

    def piece(self, text: str) -> bytes:
        """The event of one piece of text."""
        before, after = self._around_text
        return before + json.dumps(text).encode("ascii") + after

    def closing(self, finished: Finished) -> bytes:
        """The last events: why the answer ends, the token counts if wanted, and the end mark."""
        events = self._event(self._chunk(None, finished.reason))
        if self._include_usage:
            events += self._event(self._usage_chunk(usage_of(finished)))
        return events + DONE

    def _chunk_envelope(self) -> dict[str, Any]:
        # With counts at the end of a stream, the events before say that they have none.
        return {**self._envelope, "usage": None} if self._include_usage else self._envelope

    def _event(self, chunk: BaseModel) -> bytes:
        return server_sent_event(chunk.to_dict())

    @cached_property
    def _around_text(self) -> tuple[bytes, bytes]:
        placeholder = uuid.uuid4().hex
        before, _, after = self._event(self._chunk(placeholder, None)).partition(f'"{placeholder}"'.encode())
        return before, after


class ChatAnswer(Answer):
    """Answer of `/v1/chat/completions`."""

    _ID_PREFIX = "chatcmpl"

    def whole(self, text: str, finished: Finished) -> ChatCompletion:
        """See `Answer`."""
        message = ChatCompletionMessage(role="assistant", content=text, refusal=None)
        choice = Choice(index=0, message=message, finish_reason=finished.reason, logprobs=None)
        return ChatCompletion(
            object="chat.completion", choices=[choice], usage=usage_of(finished), **self._envelope
        )

    def opening(self) -> bytes:
        """The first event says who speaks."""
        return self._event(self._delta(ChoiceDelta(role="assistant", content=""), None))

    def _chunk(self, text: str | None, reason: Any) -> ChatCompletionChunk:
        return self._delta(ChoiceDelta() if text is None else ChoiceDelta(content=text), reason)

    def _delta(self, delta: ChoiceDelta, reason: Any) -> ChatCompletionChunk:
        choice = ChunkChoice(index=0, delta=delta, finish_reason=reason, logprobs=None)
        return ChatCompletionChunk(object="chat.completion.chunk", choices=[choice], **self._chunk_envelope())

    def _usage_chunk(self, usage: CompletionUsage) -> ChatCompletionChunk:
        return ChatCompletionChunk(object="chat.completion.chunk", choices=[], usage=usage, **self._envelope)


class CompletionChunkChoice(CompletionChoice):
    """A piece of a streamed completion, for which the package has no type: most have no end yet."""

    finish_reason: Literal["stop", "length"] | None  # pyright: ignore[reportIncompatibleVariableOverride]


class CompletionChunk(Completion):
    """One event of a streamed completion."""

    choices: list[CompletionChunkChoice]  # pyright: ignore[reportIncompatibleVariableOverride]


class CompletionAnswer(Answer):
    """Answer of `/v1/completions`."""

    _ID_PREFIX = "cmpl"

    def whole(self, text: str, finished: Finished) -> Completion:
        """See `Answer`."""
        choice = CompletionChoice(index=0, text=text, finish_reason=finished.reason, logprobs=None)
        return Completion(
            object="text_completion", choices=[choice], usage=usage_of(finished), **self._envelope
        )

    def _chunk(self, text: str | None, reason: Any) -> CompletionChunk:
        choice = CompletionChunkChoice(index=0, text=text or "", finish_reason=reason, logprobs=None)
        return CompletionChunk(object="text_completion", choices=[choice], **self._chunk_envelope())

    def _usage_chunk(self, usage: CompletionUsage) -> CompletionChunk:
        return CompletionChunk(object="text_completion", choices=[], usage=usage, **self._envelope)
