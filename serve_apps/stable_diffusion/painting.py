"""What the API asks of a painter; importable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Painting:
    """What to paint. The same values give the same image on the same device."""

    prompt: str
    size: int
    seed: int
    steps: int
    guidance: float
