"""A conversation as a file: JSON that the API takes as a request, or Markdown to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chat_ui.conversation import spoken

# In the browser: save what `as_json` or `as_markdown` returned. On the server no file is written.
SAVE = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file.text], { type: file.type }));
  link.download = file.name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def as_json(
    history: Sequence[Mapping[str, Any]], model: str, system: str, temperature: float
) -> dict[str, str] | None:
    """A file that is the body of a chat request, with the answers; None for an empty conversation."""
    if not history:
        return None
    turns = [("system", system.strip())] if system.strip() else []
    messages = [{"role": role, "content": text} for role, text in [*turns, *spoken(history)]]
    body = {"model": model, "temperature": temperature, "messages": messages}
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return {"name": "conversation.json", "type": "application/json", "text": text}


def as_markdown(
    history: Sequence[Mapping[str, Any]], model: str, system: str, temperature: float
) -> dict[str, str] | None:
    """A file with a heading over each message; None for an empty conversation."""
    if not history:
        return None
    title = f"# Conversation with {model}\n\nTemperature {temperature:g}."
    names = {"user": "You", "assistant": model}
    turns = [("System prompt", system.strip())] if system.strip() else []
    turns += [(names[role], text) for role, text in spoken(history)]
    text = "\n\n".join([title, *(f"## {name}\n\n{said}" for name, said in turns)]) + "\n"
    return {"name": "conversation.md", "type": "text/markdown", "text": text}
