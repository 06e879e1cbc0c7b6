"""One real question to the API, as any client would ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from offline.local.errors import LocalRunError


@dataclass(frozen=True)
class Question:
    """What to ask an app: `body` lacks the model. `told` makes a line for people of the answer."""

    path: str
    body: dict[str, Any]
    told: Callable[[dict[str, Any]], str]

    def of(self, model: str) -> dict[str, Any]:
        """The body of the request."""
        return {"model": model, **self.body}


_MESSAGE = {"role": "user", "content": "What is the capital of France?"}

# By the package of the app that answers.
QUESTIONS = {
    "llm": Question(
        "/v1/chat/completions",
        {"messages": [_MESSAGE], "max_tokens": 32, "temperature": 0},
        lambda answer: answer["choices"][0]["message"]["content"].strip(),
    ),
    "embeddings": Question(
        "/v1/embeddings",
        {"input": _MESSAGE["content"]},
        lambda answer: f"a vector of {len(answer['data'][0]['embedding'])} numbers",
    ),
    "stable_diffusion": Question(
        "/v1/images/generations",
        {"prompt": "A lighthouse at sunset", "steps": 2},
        lambda answer: f"an image, {len(answer['data'][0]['b64_json']) * 3 // 4096} KiB",
    ),
}


def ask(api_url: str, app: str, model: str, api_key: str | None, timeout_s: float) -> str:
    """The model's answer, told. Raises `LocalRunError` with the API's own words."""
    question = QUESTIONS[app]
    try:
        answer = httpx.post(
            api_url + question.path,
            json=question.of(model),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout_s,
            trust_env=False,  # a proxy of the user's environment does not lead to this machine
        )
    except httpx.TransportError as error:
        raise LocalRunError(f"the API at {api_url} does not answer: {error!r}") from error
    if not answer.is_success:
        raise LocalRunError(f"the API at {api_url} answered {answer.status_code}: {answer.text.strip()}")
    return question.told(answer.json())
