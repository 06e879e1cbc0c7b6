"""What a running Ray tells the world: its exported metrics and its logs."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"

Samples = dict[str, list[tuple[dict[str, str], float]]]


def documented_metrics() -> dict[str, str]:
    """Name to type, as the documentation has them."""
    rows = re.findall(r"^\| `(ray_neuron_serve_\w+)` \| (\w+) \|", DOCUMENTED.read_text(), re.MULTILINE)
    return dict(rows)


def scrape(port: int) -> Samples:
    """Every sample that a Ray node exports, by name."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over all samples with these labels."""
    return sum(value for given, value in samples.get(name, []) if labels.items() <= given.items())


def files_with(directory: Path, *words: str) -> list[Path]:
    """The log files that hold one of the words."""
    needles = [word.encode() for word in words]
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]
