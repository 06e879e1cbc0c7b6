"""Part `graph`: how long `python -m offline graph` takes for stacks of 1, 10 and 100 services."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.settings import Settings
from benchmarks.workload import percentile

_ROOT = Path(__file__).parent.parent
_PROGRAM = ("__main__.py", "Pulumi.yaml", "infra", "workloads", "serve_apps", "images", "chat_ui")
_SERVICES = (1, 10, 100)


async def graph(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """One row for each size; a size is evaluated as often as there are alternations."""
    with tempfile.TemporaryDirectory(prefix="neuron-serve-") as directory:
        project = Path(directory)
        for name in _PROGRAM:
            (project / name).symlink_to(_ROOT / name)
        for services in _SERVICES:
            settings.progress(f"graph: {services} services")
            _write_stack(project, services)
            runs = [_evaluate(project, services) for _ in range(settings.alternations)]
            seconds = [run[0] for run in runs]
            yield {
                "services": services,
                "resources": runs[0][1],
                "median_s": percentile(seconds, 50),
                "fastest_s": min(seconds),
            }


def _write_stack(project: Path, services: int) -> None:
    """The `local` stack with its service as many times."""
    stack = yaml.safe_load((_ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8"))
    ((_, service),) = stack["config"]["neuron-serve:services"].items()
    many = {f"model-{number}": copy.deepcopy(service) for number in range(services)}
    stack["config"]["neuron-serve:services"] = many
    text = yaml.safe_dump(stack, sort_keys=False)
    (project / f"Pulumi.services-{services}.yaml").write_text(text, encoding="utf-8")


def _evaluate(project: Path, services: int) -> tuple[float, int]:
    command = [sys.executable, "-m", "offline", "graph", "--format", "json"]
    command += ["--stack", f"services-{services}", "--project-dir", str(project)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return seconds, len(json.loads(done.stdout)["resources"])
