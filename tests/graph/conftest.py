"""Evaluations that several tests look at, and small projects of their own for the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from offline.graph import Graph
from offline.recorder import evaluate

MakeProject = Callable[..., Path]
Evaluated = Callable[..., Graph]

# What the programs below are made of: resources of a provider that does not exist.
RESOURCES = """\
import pulumi

class Thing(pulumi.CustomResource):
    arn: pulumi.Output[str]
    computed: pulumi.Output[str]

    def __init__(self, name, props=None, opts=None):
        super().__init__("test:index:Thing", name, {"arn": None, "computed": None, **(props or {})}, opts)

class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("test:index:Group", name, None, opts)

class Remote(pulumi.ComponentResource):
    pulumi_type = "test:index:Remote"

    def __init__(self, name, props=None, opts=None):
        super().__init__("test:index:Remote", name, {"endpoint": None, **(props or {})}, opts, remote=True)

    @property
    @pulumi.getter
    def endpoint(self) -> pulumi.Output[str]:
        return pulumi.get(self, "endpoint")
"""


def urn(graph: Graph, name: str) -> str:
    (resource,) = graph.by_name(name)
    return resource.urn


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    """Writes a project; `files` are further files by name. Its stack is `dev`."""

    def make(
        program: str, *, config: str = "", project: str = "name: demo\nruntime: python\n", **files: str
    ) -> Path:
        directory = tmp_path_factory.mktemp("project")
        (directory / "__main__.py").write_text(dedent(program))
        (directory / "Pulumi.yaml").write_text(project)
        (directory / "Pulumi.dev.yaml").write_text(dedent(config))
        (directory / "resources.py").write_text(RESOURCES)
        for name, text in files.items():
            (directory / f"{name}.py").write_text(dedent(text))
        return directory

    return make


@pytest.fixture(scope="session")
def evaluated() -> Evaluated:
    """Stacks of this project, each evaluated once a session: `evaluated("local", unknowns=True)`."""

    @cache
    def evaluate_once(stack: str, unknowns: bool = False) -> Graph:
        return evaluate(stack, unknowns=unknowns)

    return evaluate_once
