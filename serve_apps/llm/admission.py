"""The engine's own fence: what no request may contain, whoever sent it.

The API refuses such requests first, with better words. Here they are refused because one of them would do
harm to others: a token id beyond the vocabulary or a prompt beyond the cache makes a runner raise, and a
runner that raises ends every request in flight.
"""

from __future__ import annotations

import math

from serve_apps.llm.engine import GenerationRequest
from serve_apps.llm.runners import Capabilities


class InvalidRequestError(ValueError):
    """The request is beyond the engine's limits; the message names the value, the limit and the way out."""


def check_lengths(request: GenerationRequest, limits: Capabilities) -> None:
    """Raise `InvalidRequestError` unless prompt and answer fit into a slot."""
    prompt = len(request.prompt_ids)
    if prompt < 1:
        raise InvalidRequestError("the prompt has no tokens; send at least one")
    if prompt > limits.max_prompt:
        raise InvalidRequestError(
            f"the prompt has {prompt} tokens, the limit is {limits.max_prompt}; shorten it"
        )
    if request.max_tokens < 1:
        raise InvalidRequestError(f"max_tokens is {request.max_tokens}; ask for at least 1")
    if prompt + request.max_tokens > limits.max_len:
        raise InvalidRequestError(
            f"prompt ({prompt} tokens) and max_tokens ({request.max_tokens}) exceed the {limits.max_len} "
            "tokens of a slot; shorten the prompt or lower max_tokens"
        )


def check_values(request: GenerationRequest, limits: Capabilities, vocabulary: int) -> None:
    """Raise `InvalidRequestError` unless the runner can take every token id and sampling parameter."""
    sampling = request.sampling
    if not all(0 <= token < vocabulary for token in request.prompt_ids):
        raise InvalidRequestError(
            f"the prompt holds a token id outside 0..{vocabulary - 1}; use the ids of this model's tokenizer"
        )
    if not all(request.stop):
        raise InvalidRequestError("a stop string is empty; leave it out")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidRequestError(f"temperature is {sampling.temperature}; use 0 (greedy) or more")
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequestError(f"top_p is {sampling.top_p}; use more than 0 and at most 1")
    if sampling.top_k < 0:
        raise InvalidRequestError(f"top_k is {sampling.top_k}; use 0 (no limit) or more")
    if limits.max_top_k is not None and sampling.top_k > limits.max_top_k:
        raise InvalidRequestError(
            f"top_k is {sampling.top_k}, the limit is {limits.max_top_k}; lower it, or run the service with "
            "sampling: host"
        )
    if sampling.seed is not None and not limits.seed:
        raise InvalidRequestError(
            "this service samples on the device, which takes no seed; leave it out, or run the service with "
            "sampling: host"
        )
