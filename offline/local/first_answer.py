"""One real question to the API, as any client would ask it."""

from __future__ import annotations

import httpx

from offline.local.errors import LocalRunError

QUESTION = "What is the capital of France?"
_MAX_TOKENS = 32


def ask(api_url: str, model: str, api_key: str | None, timeout_s: float) -> str:
    """The model's answer. Raises `LocalRunError` with the API's own words."""
    try:
        answer = httpx.post(
            f"{api_url}/v1/chat/completions",
            json={
                "model": model,
                "messages": [{"role": "user", "content": QUESTION}],
                "max_tokens": _MAX_TOKENS,
                "temperature": 0,
            },
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout_s,
            trust_env=False,  # a proxy of the user's environment does not lead to this machine
        )
    except httpx.TransportError as error:
        raise LocalRunError(f"the API at {api_url} does not answer: {error!r}") from error
    if not answer.is_success:
        raise LocalRunError(f"the API at {api_url} answered {answer.status_code}: {answer.text.strip()}")
    return answer.json()["choices"][0]["message"]["content"].strip()
