"""`chat`: a conversation in the terminal, streamed, with what was said before."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from contextlib import suppress

import openai
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from client.connection import Connection, connection_of
from client.errors import explained

_HELP = "/new starts another conversation, /quit or Ctrl-D ends; Ctrl-C stops an answer"


def chat(options: argparse.Namespace) -> int:
    """Talk until the end of the input; returns the exit code. Raises `ClientError` if nothing can answer."""
    with suppress(ImportError):
        importlib.import_module("readline")  # gives input() a history and keys to edit with
    connection = connection_of(options)
    conversation = Conversation(connection, connection.model(options.model), options)
    conversation.say(f"{conversation.model} at {connection.base_url}. {_HELP}")
    while True:
        try:
            line = input("\n> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return 0
        if line in ("/quit", "/exit"):
            return 0
        if line == "/new":
            conversation.start_again()
        elif line.startswith("/"):
            conversation.say(_HELP)
        elif line:
            conversation.ask(line)


class Conversation:
    """What was said, and the model that goes on with it."""

    def __init__(self, connection: Connection, model: str, options: argparse.Namespace) -> None:
        self.model = model
        self._base_url = connection.base_url
        self._client: OpenAI = connection.client()
        self._temperature: float = options.temperature
        self._max_tokens: int | None = options.max_tokens
        self._system: str | None = options.system
        # Answers go to stdout as they are; everything about them goes to stderr.
        self._console = Console(stderr=True, highlight=False)
        self._messages: list[ChatCompletionMessageParam] = []
        self.start_again()

    def say(self, text: str) -> None:
        """Tell the user something that is no answer."""
        self._console.print(text, style="dim", markup=False)

    def start_again(self) -> None:
        """Forget what was said."""
        self._messages = [{"role": "system", "content": self._system}] if self._system else []

    def ask(self, question: str) -> None:
        """Print the answer as it comes. A question without a whole answer is not kept."""
        asked: ChatCompletionMessageParam = {"role": "user", "content": question}
        try:
            answer = self._stream([*self._messages, asked])
        except KeyboardInterrupt:
            print()
            self.say("stopped")
        except openai.OpenAIError as error:
            print()
            self._console.print(f"{explained(error, self._base_url)}", style="red", markup=False)
        else:
            reply: ChatCompletionMessageParam = {"role": "assistant", "content": answer}
            self._messages += [asked, reply]

    def _stream(self, messages: list[ChatCompletionMessageParam]) -> str:
        began = time.monotonic()
        first = last = began
        pieces: list[str] = []
        tokens = None
        with self._client.chat.completions.create(
            model=self.model,
            messages=messages,
            temperature=self._temperature,
            max_tokens=self._max_tokens or openai.omit,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    last = time.monotonic()
                    first = first if pieces else last
                    pieces.append(chunk.choices[0].delta.content)
                    print(pieces[-1], end="", flush=True)
                if chunk.usage:
                    tokens = chunk.usage.completion_tokens
        print()
        self.say(_figures(first - began, last - first, tokens))
        return "".join(pieces)


def _figures(first_token_s: float, then_s: float, tokens: int | None) -> str:
    parts = [f"first token after {first_token_s:.2f} s"]
    if tokens:
        parts.append(f"{tokens} tokens")
        if tokens > 1 and then_s > 0:
            parts.append(f"{(tokens - 1) / then_s:.1f} tokens/s")
    return ", ".join(parts)
