"""What a run of the benchmarks was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serve_apps.llm.args import DType


@dataclass(frozen=True)
class Settings:
    """Choices of the command line; `progress` says what happens now."""

    model_dir: Path
    quick: bool
    alternations: int
    threads: int
    dtypes: tuple[DType, ...]
    progress: Callable[[str], object]
