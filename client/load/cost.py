"""What an hour of the tested service costs: said by the user, or by the stack's own placement."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

from client.errors import ClientError

_SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class CostPerHour:
    """USD at the least and at the most; a lower bound where the stack has parts without a known price."""

    min: float
    max: float
    is_lower_bound: bool = False

    def per_million(self, tokens_per_s: float) -> tuple[float, float]:
        """USD per million tokens at this speed, at the least and at the most."""
        millions = tokens_per_s * _SECONDS_AN_HOUR / 1e6
        return self.min / millions, self.max / millions


def cost_of(options: argparse.Namespace) -> CostPerHour | None:
    """What `--cost-per-hour`, `--stack` or `--stack-file` says; None without any. Raises `ClientError`."""
    if options.cost_per_hour is not None:
        return CostPerHour(options.cost_per_hour, options.cost_per_hour)
    if options.stack_file:
        return _cost_of_stack("--stack-file", str(options.stack_file))
    return _cost_of_stack("--stack", options.stack) if options.stack else None


def _cost_of_stack(option: str, value: str) -> CostPerHour:
    # A process of its own: this package knows nothing of stacks.
    result = subprocess.run(
        [sys.executable, "-m", "offline", "graph", option, value, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ClientError(f"{option} {value}: {result.stderr.strip()}")
    cost = json.loads(result.stdout).get("cost")
    if not cost:
        raise ClientError(
            f"{option} {value}: a cluster that somebody else pays has no cost; say --cost-per-hour"
        )
    least, most = (sum(part[bound] or 0.0 for part in cost["parts"].values()) for bound in ("min", "max"))
    return CostPerHour(least, most, is_lower_bound=bool(cost["unknown"]))
