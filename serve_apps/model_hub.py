"""Models of the Hugging Face Hub, in Hugging Face's own cache."""

from __future__ import annotations

import logging
from pathlib import Path

from serve_apps.model_files import (
    IGNORED_PATTERNS,
    PATTERNS,
    PIPELINE_IGNORED_PATTERNS,
    PIPELINE_INDEX,
    PIPELINE_PATTERNS,
    TOKENIZER_PATTERNS,
    ModelError,
    checked_directory,
)

logger = logging.getLogger(__name__)


def from_hub(model: str, *, weights: bool) -> Path:
    """The snapshot of a repository, without `weights` only what its tokenizer needs. Raises `ModelError`."""
    path = _snapshot(model, PATTERNS if weights else TOKENIZER_PATTERNS, IGNORED_PATTERNS)
    return checked_directory(model, path, weights=weights)


def pipeline_from_hub(model: str) -> Path:
    """The snapshot of a diffusers pipeline. Raises `ModelError`."""
    path = _snapshot(model, PIPELINE_PATTERNS, PIPELINE_IGNORED_PATTERNS)
    if not (path / PIPELINE_INDEX).is_file():
        raise ModelError(f"model {model!r}: holds no {PIPELINE_INDEX}; name a diffusers pipeline")
    return path


def _snapshot(model: str, patterns: list[str], ignored: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    logger.info("fetching from the Hugging Face Hub, or from its cache on this machine")
    try:
        path = snapshot_download(
            model,
            allow_patterns=patterns,
            ignore_patterns=ignored,
        )
    except errors.HFValidationError as error:
        raise ModelError(
            f"model {model!r}: neither a directory, nor `package:NAME`, nor a Hugging Face Hub id such as "
            f"`HuggingFaceTB/SmolLM2-135M-Instruct` ({error})"
        ) from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"model {model!r}: the repository is gated; accept its licence at https://huggingface.co/{model} "
            "and set HF_TOKEN to a token of that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"model {model!r}: no such repository on the Hugging Face Hub, or a private one; "
            "check the spelling, or set HF_TOKEN to a token that may read it"
        ) from error
    except OSError as error:  # offline mode, no network, an incomplete cache, a full disk
        raise ModelError(
            f"model {model!r}: not in the cache on this machine and cannot be downloaded "
            f"({_first_line(error)}); {_way_online()}"
        ) from error
    return Path(path)


def _way_online() -> str:
    from huggingface_hub import constants

    alternative = "name a local directory or `package:NAME`"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set: unset it, or {alternative}"
    return f"check the network and the disk, or {alternative}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
