"""What the tests on a cluster are told by the environment; docs/development.md lists the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.graph.stacks import stack_file

HOW_TO_GET_ONE = "docs/development.md says how to get a cluster for the tests"
_PROBE_TIMEOUT_S = 20
(_LOCAL,) = stack_file("local")["neuron-serve:services"].values()


@dataclass(frozen=True)
class Settings:
    """Where images and the operator come from.

    `next_image` is what a roll-out to another image goes to; the same image where there is only one. `chart`
    is a path to the operator's chart, None for the published one. `repeat` is how often each story is played.
    """

    image: str
    next_image: str
    store_image: str | None
    chart: str | None
    repeat: int

    @property
    def operator(self) -> dict[str, Any]:
        """`kuberay` of a stack file that installs the operator."""
        return {"install": True} | ({"chart": self.chart, "repository": None} if self.chart else {})

    @property
    def store(self) -> dict[str, Any]:
        """`gcsStore` of a stack file."""
        return {"kind": "inCluster"} | ({"image": self.store_image} if self.store_image else {})


def settings() -> Settings:
    """From the environment."""
    image = os.environ.get("NEURON_SERVE_TEST_IMAGE", _LOCAL["image"])
    return Settings(
        image=image,
        next_image=os.environ.get("NEURON_SERVE_TEST_NEXT_IMAGE", image),
        store_image=os.environ.get("NEURON_SERVE_TEST_STORE_IMAGE"),
        chart=os.environ.get("NEURON_SERVE_TEST_CHART"),
        repeat=int(os.environ.get("NEURON_SERVE_TEST_REPEAT", "1")),
    )


def what_is_missing() -> str | None:
    """Why the tests cannot run here, with the way out; None where they can."""
    for program in ("pulumi", "kubectl"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH; {HOW_TO_GET_ONE}"
    # A cluster that somebody happens to be logged in to is not to be filled with test services.
    if not (kubeconfig := os.environ.get("KUBECONFIG")):
        return f"KUBECONFIG is not set; {HOW_TO_GET_ONE}"
    command = ["kubectl", "get", "--raw", "/readyz", "--request-timeout", "10s"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the cluster of KUBECONFIG {kubeconfig} does not answer; {HOW_TO_GET_ONE}"
    if probe.returncode:
        return f"the cluster of KUBECONFIG {kubeconfig}: {probe.stderr.strip()}; {HOW_TO_GET_ONE}"
    return None
