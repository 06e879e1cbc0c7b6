"""A KV cache in which every sequence has its own place and its own length.

transformers' own static cache has one write position for the whole batch. This one is told before each
forward pass which slot and which position each token has; everything else stays transformers'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

KEY_BLOCK = 64  # attended keys are rounded up to this, so that their number changes rarely


def _nothing() -> torch.Tensor:
    return torch.empty(0, dtype=torch.long)


@dataclass
class _Placement:
    """Where the tokens of the forward pass belong; one object, shared by all layers.

    `slots` and `positions` are [tokens], in the order of the flattened input. A decode reads the cache of
    the slots `rows` up to `attended`; in a prefill (`rows` None) the tokens see only each other.
    """

    slots: torch.Tensor = field(default_factory=_nothing)
    positions: torch.Tensor = field(default_factory=_nothing)
    rows: slice | torch.Tensor | None = None
    attended: int = 0


class SlotCache(Cache):
    """`slots` sequences of at most `max_len` tokens, allocated in whole by the first forward pass."""

    def __init__(self, slots: int, max_len: int) -> None:
        self._placement = _Placement()
        self._max_len = max_len
        new_layer = partial(_SlotCacheLayer, self._placement, slots, max_len)
        super().__init__(layer_class_to_replicate=new_layer)  # pyright: ignore[reportArgumentType]

    @property
    def bytes(self) -> int:
        """What is allocated."""
        layers: list[Any] = self.layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def place_prefill(self, slots: torch.Tensor, positions: torch.Tensor) -> None:
        """The next forward pass writes its tokens to `slots` at `positions`, both [tokens]."""
        place = self._placement
        place.slots, place.positions, place.rows = slots, positions, None

    def place_decode(self, slots: Sequence[int], positions: torch.Tensor, longest: int) -> int:
        """The next forward pass has one token for each of `slots`, ascending; returns the keys it attends to.

        `longest` is the number of tokens of the longest of these sequences, with the one to come.
        Slots 0..n-1 are read in place; a set with gaps has to be gathered, which copies the attended keys.
        """
        place = self._placement
        place.slots, place.positions = torch.tensor(slots, device=positions.device), positions
        place.rows = slice(len(slots)) if slots[-1] == len(slots) - 1 else place.slots
        place.attended = min(-(-longest // KEY_BLOCK) * KEY_BLOCK, self._max_len)
        return place.attended


class _SlotCacheLayer(CacheLayerMixin):
    is_sliding = False

    def __init__(self, placement: _Placement, slots: int, max_len: int) -> None:
        super().__init__()
        self._placement = placement
        self._slots = slots
        self._max_len = max_len

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._allocate(key_states)
        self.values = self._allocate(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the states [rows, kv_heads, tokens of a row, head_dim]; return those to attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._store(self.keys, key_states), self._store(self.values, value_states)

    def get_mask_sizes(self, query_length: object) -> tuple[int, int]:
        raise NotImplementedError("a forward pass over a slot cache brings its own 4-D mask")

    def get_seq_length(self) -> int:
        """Zero: the lengths differ from slot to slot, and the positions come with each forward pass."""
        return 0

    def get_max_length(self) -> int:
        """Tokens a slot can hold."""
        return self._max_len

    get_max_cache_shape = get_max_length  # its name in transformers 4

    def _allocate(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros((self._slots, states.shape[1], self._max_len, states.shape[-1]))

    def _store(self, cached: Any, states: torch.Tensor) -> torch.Tensor:
        place = self._placement
        cached[place.slots, :, place.positions] = states.transpose(1, 2).flatten(0, 1)
        return states if place.rows is None else cached[place.rows, :, : place.attended]
