"""What a model's files are, where they are kept, and how a directory of them comes to be complete."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from serve_apps.environment import MODEL_CACHE_ENV

# Everything but the weights: config, tokenizer, chat template.
TOKENIZER_PATTERNS = ["*.json", "*.jinja", "*.txt", "tokenizer.model"]
# Weights as safetensors only; the ignored ones are second copies that some repositories carry.
PATTERNS = ["*.safetensors", *TOKENIZER_PATTERNS]
IGNORED_PATTERNS = ["*/*", "consolidated*"]

# What makes a directory a diffusers pipeline: this file, and a folder for every part of it.
PIPELINE_INDEX = "model_index.json"
PIPELINE_PATTERNS = ["*.json", "*.txt", "*/*.safetensors"]
# Second copies of the weights, and the part that this project leaves out.
PIPELINE_IGNORED_PATTERNS = ["*.fp16.safetensors", "*.non_ema.safetensors", "safety_checker/*"]


class ModelError(ValueError):
    """A model that cannot be had; the message names it, the reason and the way out."""


def model_cache() -> Path:
    """Where converted and downloaded models are kept."""
    configured = os.environ.get(MODEL_CACHE_ENV)
    return Path(configured) if configured else Path.home() / ".cache" / "neuron-serve" / "models"


def is_wanted(name: str, *, weights: bool) -> bool:
    """Whether a file of a repository belongs to the model, or without `weights` to its tokenizer."""
    if any(fnmatch.fnmatch(name, pattern) for pattern in IGNORED_PATTERNS):
        return False
    return any(fnmatch.fnmatch(name, pattern) for pattern in (PATTERNS if weights else TOKENIZER_PATTERNS))


def checked_directory(model: str, directory: Path, *, weights: bool = False) -> Path:
    """`directory`, if it has a config and, with `weights`, safetensors. Raises `ModelError`."""
    if not (directory / "config.json").is_file():
        raise ModelError(
            f"model {model!r}: {directory} holds no config.json; name a directory in Hugging Face format "
            "(config.json, *.safetensors, tokenizer.json)"
        )
    if weights and not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"model {model!r}: holds no safetensors weights; name one that does, or a local directory with "
            "converted weights"
        )
    return directory


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, a directory that `make` fills if it is not there yet. Safe to call from several processes.

    It is made beside the target and renamed: a target that exists is complete.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_dir():  # another process finished it while this one waited
            return target
        shutil.rmtree(partial, ignore_errors=True)  # of a crash
        try:
            make(partial)
            make_durable(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def make_durable(directory: Path) -> None:
    """Readable for other users (safetensors writes mode 0600), and on the disk before the rename.

    Without the sync a power cut after the rename could leave a complete name over incomplete files.
    """
    below = list(directory.rglob("*"))
    for path in below:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in [*below, directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
