"""Finding Neuron's Python packages, which are installed in the Neuron image and nowhere else.

On the public index there are packages of the same names that install and then raise an ImportError with the
words "WRONG PACKAGE"; the real wheels are in AWS's own repository.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

PIP_REPOSITORY = "https://pip.repos.neuron.amazonaws.com"
VISIBLE_CORES_ENV = "NEURON_RT_VISIBLE_CORES"
_WAY_OUT = (
    "run the service on the image of images/neuron.Dockerfile, or install transformers-neuronx and "
    f"torch-neuronx with `pip install --extra-index-url {PIP_REPOSITORY}`"
)


class NeuronLibraryError(ImportError):
    """A Neuron package cannot be used here; the message says why and where it is."""


class NeuronCoresError(RuntimeError):
    """The process does not have the NeuronCores that the model is spread over."""


def import_library(module: str) -> Any:
    """One of Neuron's modules. Raises `NeuronLibraryError`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NeuronLibraryError(_reason(module, error)) from error


def check_visible_cores(wanted: int, setting: str) -> None:
    """Raise `NeuronCoresError` unless the cores that Ray gave to this process are as many as `setting` says.

    With too few, the runtime fails in the middle of a load; with too many, a core lies idle that another
    replica may count on. Without Ray the variable is not set and the runtime takes what it finds.
    """
    visible = os.environ.get(VISIBLE_CORES_ENV)
    if visible is None:
        return
    cores = _expanded(visible)
    if len(cores) != wanted:
        raise NeuronCoresError(
            f"{VISIBLE_CORES_ENV} is {visible!r}, {len(cores)} NeuronCores, but {setting} is "
            f"{wanted}; set ray_actor_options.resources.neuron_cores to {setting}"
        )


def _reason(module: str, error: ImportError) -> str:
    # A stub names itself in its text only; the missing module may be one that the library itself needs.
    if "WRONG PACKAGE" in str(error).upper():
        return (
            "an installed Neuron package is the stub of the public index, which installs and cannot be "
            f"imported; uninstall transformers-neuronx, torch-neuronx and neuronx-cc, then {_WAY_OUT}"
        )
    return f"{module} cannot be imported ({error}); {_WAY_OUT}"


def _expanded(visible: str) -> set[int]:
    """The cores that a list like `0,1` or `4-7` names."""
    cores: set[int] = set()
    for part in visible.split(","):
        first, _, last = part.strip().partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
