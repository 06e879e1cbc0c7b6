"""What the loaded scenarios leave behind: a table for the terminal, a file, and docs/high-availability.md."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import ray
from rich.table import Table

from tests.cluster.kubernetes import Kubernetes
from tests.cluster.load import Row
from tests.cluster.stack import Stack
from tests.graph.stacks import CHECKOUT

RESULTS = CHECKOUT / "test-artifacts" / "cluster.json"
DOCUMENT = CHECKOUT / "docs" / "high-availability.md"
COLUMNS = ("scenario", "replicas", "requests", "lost", "wrong", "median, longest", "also")
_BEGIN, _END = "<!-- make test-cluster -->", "<!-- end of make test-cluster -->"


def cells(row: Row) -> list[str]:
    """A row of the table."""
    refused = f", {row.refused:,} of them refused" if row.refused else ""
    return [
        row.scenario,
        str(row.replicas),
        f"{row.requests:,}",
        f"{row.lost:,}{refused}",
        f"{row.wrong:,}",
        f"{row.median_s:.1f}, {row.longest_s:.1f} s",
        "; ".join(f"{name} {value}" for name, value in row.also.items()),
    ]


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    shown = Table(*COLUMNS, title="under load, on Kubernetes")
    for row in rows:
        shown.add_row(*cells(row), style="red" if row.lost + row.wrong else "green")
    return shown


def versions(kubernetes: Kubernetes, stack: Stack) -> dict[str, str]:
    """Of everything that had a part in it; `stack` is one that is up."""
    # The operator leaves its own there (ray-operator/controllers/ray/raycluster_controller.go, v1.7.0).
    annotations = kubernetes.all("Pod", stack.name, "ray.io/node-type=head")[0]["metadata"]["annotations"]
    state = json.loads(stack.run("stack", "export").expect().output)["deployment"]
    (provider,) = [r for r in state["resources"] if r["type"] == "pulumi:providers:kubernetes"]
    return {
        "Kubernetes": kubernetes.version(),
        "KubeRay": annotations["ray.io/kuberay-version"],
        "pulumi-kubernetes": provider["outputs"]["version"],
        "Pulumi": state["manifest"]["version"],
        "Ray": ray.__version__,
    }


def save(rows: Sequence[Row], figures: Mapping[str, str], seen_on: Mapping[str, str]) -> None:
    """Write the results for `python -m tests.cluster`."""
    machine = {"cores": psutil.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30)}
    results = {
        "date": time.strftime("%Y-%m-%d"),
        **machine,
        "versions": dict(seen_on),
        "figures": dict(figures),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def write_document(document: Path, results: dict[str, Any]) -> None:
    """Put the results between the marks of the page. Raises `ValueError` if they are missing."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(cells(Row(**row)) for row in results["rows"])]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    seen_on = ", ".join(
        f"{name} {version.removeprefix('v')}" for name, version in results["versions"].items()
    )
    machine = f"{results['cores']} cores and {results['memory_gib']} GiB for everything, clients included"
    figures = "".join(f" {name}: {figure}." for name, figure in results["figures"].items())
    text = "\n".join([_BEGIN, *lines, "", f"{results['date']}, {machine}; {seen_on}.{figures}", _END])
    whole = document.read_text()
    pattern = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(
            f"{document}: the marks {_BEGIN} and {_END} are missing; add them where the table is to be"
        )
    document.write_text(pattern.sub(lambda _: text, whole))
