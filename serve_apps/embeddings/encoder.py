"""Token ids to vectors, at compiled shapes: a transformer, masked mean pooling, length 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serve_apps.artifacts import ArtifactStore
from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.models import resolve
from serve_apps.tracing import Tracer, bucket_for, buckets

# A text of a few words is the most common one; padding it to more would cost time for nothing.
_SHORTEST_BUCKET = 32
# Shares a row's weight among its tokens; a row of padding alone has none, and must not become NaN.
_SMALLEST_COUNT = 1e-9
_POOLING_CONFIG = Path("1_Pooling") / "config.json"


class EncoderConfigError(ValueError):
    """The arguments and the model do not go together; the message has the way out."""


class PooledTransformer(nn.Module):
    """`(ids, mask)`, both `[batch, length]` int64, to unit vectors `[batch, dimensions]` float32.

    A row without any token gives zeros.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        states: Tensor = self.transformer(input_ids=ids, attention_mask=mask, return_dict=False)[0]
        weights = mask.unsqueeze(-1).to(torch.float32)
        sums = (states.to(torch.float32) * weights).sum(dim=1)
        means = sums / weights.sum(dim=1).clamp(min=_SMALLEST_COUNT)
        return nn.functional.normalize(means, dim=-1)


class Encoder:
    """A model compiled for batches of some sizes and texts of some lengths; for one thread."""

    def __init__(self, model_dir: Path, args: EmbeddingsArgs, artifacts: ArtifactStore | None = None) -> None:
        """Raises `EncoderConfigError`, or what `Tracer` raises."""
        _check_pooling(args.model, model_dir)
        transformer = _load(model_dir)
        check_length(args, transformer.config.to_dict())
        self._max_batch = args.max_batch
        self.batches = buckets(args.max_batch)
        self.lengths = buckets(args.max_input_tokens, smallest=_SHORTEST_BUCKET)
        self.dimensions: int = transformer.config.hidden_size
        examples = [
            (torch.zeros(batch, length, dtype=torch.int64), torch.ones(batch, length, dtype=torch.int64))
            for batch in self.batches
            for length in self.lengths
        ]
        tracer = Tracer(args.device, artifacts, cores=args.neuron_cores)
        self._compiled = tracer.compile("encoder", PooledTransformer(transformer), examples)

    def encode(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """A unit vector for every text, in their order. Raises `ShapeNotCompiledError` for one too long."""
        vectors: list[list[float]] = [[] for _ in texts]
        # Neighbours in length share a batch, so that a short text is not padded to a long one.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for first in range(0, len(order), self._max_batch):
            chosen = order[first : first + self._max_batch]
            rows = self._compiled(*self._padded([texts[index] for index in chosen]))
            for index, row in zip(chosen, rows.tolist(), strict=False):
                vectors[index] = row
        return vectors

    def _padded(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask of a bucket, each `[batch, length]`; the rest of it is padding."""
        batch = bucket_for(len(texts), self.batches)
        length = bucket_for(max(map(len, texts)), self.lengths)
        ids = torch.zeros(batch, length, dtype=torch.int64)
        mask = torch.zeros(batch, length, dtype=torch.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
            mask[row, : len(text)] = 1
        return ids, mask


def build_encoder(args: EmbeddingsArgs) -> Encoder:
    """The encoder that `args` describe. May download the model first, and compile it."""
    return Encoder(resolve(args.model), args, ArtifactStore.from_environment())


def check_length(args: EmbeddingsArgs, config: dict[str, Any]) -> None:
    """Raise `EncoderConfigError` if the model, by its `config.json`, knows fewer positions than asked for."""
    longest = config.get("max_position_embeddings")
    if longest is not None and args.max_input_tokens > longest:
        raise EncoderConfigError(
            f"max_input_tokens is {args.max_input_tokens}, but model {args.model!r} knows {longest} "
            f"positions; set it to {longest} or less"
        )


def _load(model_dir: Path) -> Any:
    from transformers import AutoModel

    # Eager attention: the fused one chooses its kernel by the inputs, which a trace would freeze.
    model: Any = AutoModel.from_pretrained(model_dir, attn_implementation="eager")
    return model.to(torch.float32)


def _check_pooling(model: str, model_dir: Path) -> None:
    path = model_dir / _POOLING_CONFIG
    if not path.is_file():
        return
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    modes = sorted(key for key, value in config.items() if key.startswith("pooling_mode_") and value is True)
    if modes != ["pooling_mode_mean_tokens"]:
        raise EncoderConfigError(
            f"model {model!r} pools by {', '.join(modes) or 'nothing'}; only the mean over tokens is "
            "computed here, choose a model with pooling_mode_mean_tokens"
        )
