"""On what, and with which versions, something was measured."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.settings import Settings
from serve_apps.llm.runners.linear import lacks_bfloat16


def describe(settings: Settings) -> dict[str, Any]:
    """Machine, versions, commit and settings of a run."""
    chosen = {
        name: value for name, value in asdict(settings).items() if name not in ("progress", "model_dir")
    }
    return {
        "cpu": _cpu_name(),
        "instructions": _instructions(),
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": psutil.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "ray")},
        "model": settings.model_dir.name,
        "commit": _git("rev-parse", "--short", "HEAD") + ("-dirty" if _git("status", "--porcelain") else ""),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "settings": chosen,
    }


def _instructions() -> str:
    """As far as torch uses them."""
    return f"{torch.backends.cpu.get_cpu_capability()}, {'no ' if lacks_bfloat16() else ''}bfloat16"


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
