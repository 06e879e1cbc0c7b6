"""Texts to token ids, within the model's vocabulary and the compiled lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_apps import errors
from serve_apps.model_files import ModelError


class Tokens:
    """The tokenizer of one model, without its own padding and cutting off."""

    def __init__(self, model_dir: Path, max_input_tokens: int) -> None:
        from tokenizers import Tokenizer

        # The file itself, because transformers' loading differs between its versions.
        path = model_dir / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{model_dir} holds no tokenizer.json; choose a model with a fast tokenizer")
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._vocabulary: int = self._tokenizer.get_vocab_size()
        self._longest = max_input_tokens

    def of(self, texts: Sequence[str | list[int]]) -> list[list[int]]:
        """Token ids of every text; ids that a client sends are taken as they are.

        Raises `ApiError` (400) for a text that is too long or has an unknown id.
        """
        encoded = [self._tokenizer.encode(text).ids if isinstance(text, str) else text for text in texts]
        for index, ids in enumerate(encoded):
            if len(ids) > self._longest:
                raise errors.invalid(
                    f"This model's maximum input length is {self._longest} tokens; text {index} has "
                    f"{len(ids)}: split or shorten it.",
                    param="input",
                    code="context_length_exceeded",
                )
            if not all(0 <= token < self._vocabulary for token in ids):
                raise errors.invalid(
                    f"input: text {index} has a token id that is not between 0 and {self._vocabulary - 1}.",
                    param="input",
                )
        return encoded
