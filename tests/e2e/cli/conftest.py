"""The real Pulumi CLI over a copy of the project, with a file for a backend and stand-ins for providers."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api_server import api_server
from tests.graph.stacks import CHECKOUT, copy_of_the_checkout

PACKAGES = ("aws", "eks", "kubernetes", "docker-build")
STAND_IN = Path(__file__).with_name("stand_in_provider.py")
ENCRYPTION_KEYS = ("encryptionsalt:", "encryptedkey:", "secretsprovider:")
# An update of 150 resources takes seconds; a CLI that waits for an answer would wait for ever.
COMMAND_TIMEOUT_S = 300


@dataclass(frozen=True)
class Cli:
    """`pulumi` in a project of its own."""

    project: Path
    environment: dict[str, str]
    log: Path

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def operations(self) -> list[tuple[str, str]]:
        """What the engine asked of the providers since the last call: operation, URN."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        self.log.unlink()
        return [(line["operation"], line["urn"]) for line in lines]

    def state(self, stack: str) -> dict[str, Any]:
        return json.loads(self.run("stack", "export", "--stack", stack).stdout)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    if shutil.which("pulumi") is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    directory = tmp_path_factory.mktemp("cli")
    project = copy_of_the_checkout(directory / "project")
    for stack_file in project.glob("Pulumi.*.yaml"):
        forget_encryption(stack_file)
    (project / ".venv").symlink_to(CHECKOUT / ".venv")
    plugins = directory / "bin"
    plugins.mkdir()
    for package in PACKAGES:
        script(plugins / f"pulumi-resource-{package}", f'exec {sys.executable} {STAND_IN} "$@"')
    script(plugins / "aws", "exit 1")
    with api_server() as cluster:
        environment = environment_of(directory, plugins, cluster.write_kubeconfig(directory / "kubeconfig"))
        yield Cli(project, environment, Path(environment["OPERATIONS_LOG"]))


def environment_of(directory: Path, plugins: Path, kubeconfig: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{plugins}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "OPERATIONS_LOG": str(directory / "operations.jsonl"),
        "PULUMI_BACKEND_URL": f"file://{directory}",
        "PULUMI_HOME": str(directory / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "DOCKER_HOST": "unix:///none",
        "KUBECONFIG": str(kubeconfig),
    }


def forget_encryption(stack_file: Path) -> None:
    """Drop what `pulumi stack init` wrote for a stack of the checkout, whose passphrase is not the tests'."""
    lines = stack_file.read_text().splitlines(keepends=True)
    stack_file.write_text("".join(line for line in lines if not line.startswith(ENCRYPTION_KEYS)))


def script(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
