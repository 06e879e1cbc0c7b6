"""transformers-neuronx, as far as this engine knows it."""

from __future__ import annotations

import logging
from typing import Any

from serve_apps.neuron_library import import_library

logger = logging.getLogger(__name__)

_KNOWN_VERSION = "0.13."


def load_library() -> Any:
    """The module `transformers_neuronx`. Raises `NeuronLibraryError`."""
    library = import_library("transformers_neuronx")
    version = str(library.__version__)
    if not version.startswith(_KNOWN_VERSION):
        logger.warning(
            "transformers-neuronx is %s; this engine is written for %sx and may compute wrongly with others",
            version,
            _KNOWN_VERSION,
        )
    return library
