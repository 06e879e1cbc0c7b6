"""From a model's name to a directory of safetensors, tokenizer and config that any engine can load.

Five kinds of names:

* a local directory, used as it is;
* `package:NAME`: the GGUF file that the installed Python package NAME ships, dequantised once into the
  model cache (`NEURON_SERVE_MODEL_CACHE`, default `~/.cache/neuron-serve/models`);
* `s3://BUCKET/PREFIX`: the objects under that prefix, downloaded into the model cache;
* `tiny:stable-diffusion`: an image model with random weights, made once in the model cache;
* anything else is a Hugging Face Hub id, downloaded into Hugging Face's own cache (`HF_HOME`). `HF_TOKEN`
  and `HF_HUB_OFFLINE` mean what they always mean.

`python -m serve_apps.models prepare NAME` does the slow part ahead of the first request.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from serve_apps import model_bucket, model_package, model_tiny
from serve_apps.model_bucket import from_bucket
from serve_apps.model_files import PIPELINE_INDEX, ModelError, checked_directory
from serve_apps.model_hub import from_hub, pipeline_from_hub
from serve_apps.model_package import from_package
from serve_apps.model_tiny import from_tiny

# The log of the modules that fetch models, for the command line below.
logger = logging.getLogger("serve_apps")


def resolve(model: str) -> Path:
    """The directory with the weights, tokenizer and config of `model`.

    May download or convert, which takes from seconds to hours; a prepared model resolves at once. Safe to
    call from several processes. Raises `ModelError`.
    """
    return _resolve(model, weights=True)


def resolve_tokenizer(model: str) -> Path:
    """A directory with the tokenizer and config of `model`, and perhaps its weights; see `resolve`.

    What is downloaded for it are the small files only: a node that runs no engine needs no weights. GGUF has
    both in one file, so a package is converted as a whole.
    """
    return _resolve(model, weights=False)


def resolve_pipeline(model: str) -> Path:
    """The directory of a diffusers pipeline: a local one, a tiny one, or a Hub id's. Raises `ModelError`."""
    if model.startswith(model_tiny.PREFIX):
        return from_tiny(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / PIPELINE_INDEX).is_file():
            raise ModelError(f"model {model!r}: {path} holds no {PIPELINE_INDEX}; name a diffusers pipeline")
        return path.resolve()
    if path.is_absolute() or model.startswith((model_package.PREFIX, model_bucket.PREFIX, "./", "../", "~")):
        raise ModelError(
            f"model {model!r}: no such directory; an image model is a directory with a diffusers pipeline, "
            f"{model_tiny.TINY_STABLE_DIFFUSION!r} or a Hugging Face Hub id"
        )
    return pipeline_from_hub(model)


def _resolve(model: str, *, weights: bool) -> Path:
    if model.startswith(model_package.PREFIX):
        return from_package(model)
    if model.startswith(model_bucket.PREFIX):
        return from_bucket(model, weights=weights)
    path = Path(model).expanduser()
    if path.is_dir():
        return checked_directory(model, path.resolve())
    if path.is_absolute() or model.startswith(("./", "../", "~")):
        raise ModelError(
            f"model {model!r}: no such directory; name an existing one, or a Hugging Face Hub id"
        )
    return from_hub(model, weights=weights)


class _ElapsedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.relativeCreated / 1000:6.1f} s  {record.getMessage()}"


def main(arguments: list[str] | None = None) -> int:
    """Prepare a model and print its directory on standard output; progress is logged."""
    parser = argparse.ArgumentParser(prog="python -m serve_apps.models", description=__doc__)
    parser.add_argument("command", choices=["prepare"])
    parser.add_argument("--pipeline", action="store_true", help="the model is a diffusers pipeline")
    parser.add_argument(
        "model",
        help="a local directory, package:NAME, s3://BUCKET/PREFIX, tiny:stable-diffusion, "
        "or a Hugging Face Hub id",
    )
    chosen = parser.parse_args(arguments)
    if chosen.model.startswith((model_package.PREFIX, model_tiny.PREFIX)):
        # A conversion logs its stages; a download has only its progress bars.
        os.environ["TQDM_DISABLE"] = "1"
    try:
        directory = resolve_pipeline(chosen.model) if chosen.pipeline else resolve(chosen.model)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(directory)
    return 0


def _log_progress() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_ElapsedFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    _log_progress()
    sys.exit(main())
