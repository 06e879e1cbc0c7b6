"""Between Gradio's messages and the API's, and the words under the conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from openai.types.chat import ChatCompletionMessageParam

from chat_ui.apis import Answer
from chat_ui.errors import ApiError


def to_api(
    history: Sequence[Mapping[str, Any]], new: str, system: str = ""
) -> list[ChatCompletionMessageParam]:
    """The conversation, ending in the new message, without what was only said to the reader.

    A question that got no answer is left out: chat templates want questions and answers in turns.
    """
    result: list[ChatCompletionMessageParam] = []
    if system.strip():
        result.append({"role": "system", "content": system.strip()})
    question: str | None = None
    for role, text in spoken(history):
        if role == "user":
            question = text
        elif question is not None:
            result.append({"role": "user", "content": question})
            result.append({"role": "assistant", "content": text})
            question = None
    result.append({"role": "user", "content": new})
    return result


def spoken(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Roles and texts of Gradio's messages, without notices and empty answers."""
    said = [(m["role"], _text(m["content"])) for m in history if not _is_notice(m)]
    return [(role, text) for role, text in said if role == "user" or text]


def notice(error: ApiError) -> dict[str, Any]:
    """A message to the reader in place of an answer."""
    return {"role": "assistant", "content": error.advice, "metadata": {"title": f"⚠️ {error.headline}"}}


def figures(model: str, answer: Answer | None = None) -> str:
    """HTML of the line under the conversation: which model, how soon, how fast."""
    parts = [f"<b>{escape(model)}</b>"]
    if answer:
        parts.append(f"first token after {answer.first_token_s:.2f} s")
        if answer.tokens:
            parts.append(f"{answer.tokens} tokens")
        if answer.tokens_per_s:
            parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    return " · ".join(parts)


def _text(content: Any) -> str:
    """Gradio hands a message over as text, or as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _is_notice(message: Mapping[str, Any]) -> bool:
    return bool((message.get("metadata") or {}).get("title"))
