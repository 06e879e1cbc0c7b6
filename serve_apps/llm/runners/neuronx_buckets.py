"""Which lengths transformers-neuronx compiles graphs for.

Every bucket is a graph that is compiled and kept on the device, so there are few of them: a step pays for
at most four times (prefill) or twice (decode) the tokens it needs.
"""

from __future__ import annotations

_SHORTEST_CONTEXT, _CONTEXT_GROWTH = 128, 4
_SHORTEST_CACHE, _CACHE_GROWTH = 512, 2


def context_buckets(max_len: int) -> list[int]:
    """Prompt lengths of the prefill graphs, tokens: ascending, unique, the last one `max_len`."""
    return _grown(_SHORTEST_CONTEXT, _CONTEXT_GROWTH, max_len)


def token_buckets(max_len: int) -> list[int]:
    """Cache lengths of the decode graphs, tokens: ascending, unique, the last one `max_len`.

    The longest live sequence chooses the graph of a step.
    """
    return _grown(_SHORTEST_CACHE, _CACHE_GROWTH, max_len)


def _grown(shortest: int, growth: int, longest: int) -> list[int]:
    buckets: list[int] = []
    size = shortest
    while size < longest:
        buckets.append(size)
        size *= growth
    return [*buckets, longest]
