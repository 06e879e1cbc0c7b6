"""`python -m offline graph` and `manifests`, as a user types them: output, exit codes, nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from offline.graph import Graph
from tests.graph.conftest import Evaluated, MakeProject
from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


def offline(*arguments: str, cwd: Path = CHECKOUT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "offline", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def small(make_project: MakeProject) -> Path:
    return make_project(
        """
        import pulumi
        from resources import Thing
        size = pulumi.Config().require_int("size")
        if size > 9:
            raise pulumi.RunError(f"demo:size: {size} is too large; at most 9")
        base = Thing("base", {"size": size})
        Thing("user", {"id": base.id})
        print("not part of the answer")
        pulumi.log.warn("size will be removed")
        """,
        project="name: demo\nruntime: python\nconfig: {size: {type: integer, default: 1}}\n",
    )


def test_json_is_the_graph_that_the_library_returns(evaluated: Evaluated) -> None:
    result = offline("graph", "--stack", "local", "--format", "json")
    assert result.returncode == 0
    assert Graph.from_json(json.loads(result.stdout)) == evaluated("local")


def test_text_is_the_default_and_the_nearest_project_is_evaluated(small: Path) -> None:
    (small / "below").mkdir()
    result = offline("graph", "--stack", "dev", cwd=small / "below")
    assert result.returncode == 0
    assert result.stdout == (
        "demo, stack dev: 2 resources\n"
        "├─ Thing base  [test:index]\n"
        "└─ Thing user  [test:index]  needs Thing base\n"
    )


def test_a_warning_of_the_program_goes_to_standard_error(small: Path) -> None:
    result = offline("graph", "--stack", "dev", "--project-dir", str(small), "--format", "mermaid")
    assert result.stdout.startswith("flowchart TD\n")
    assert "warning: size will be removed\n" in result.stderr


def test_unknowns_evaluates_a_first_preview(small: Path) -> None:
    arguments = ("graph", "--stack", "dev", "--project-dir", str(small), "--format", "json")
    known, unknown = (json.loads(offline(*arguments, *more).stdout) for more in ((), ("--unknowns",)))
    assert known["resources"][2]["inputs"]["id"].startswith("base-")
    assert unknown["resources"][2]["inputs"]["id"] == {"$unknown": True}


def test_manifests_are_yaml_for_kubectl(evaluated: Evaluated) -> None:
    result = offline("manifests", "--stack", "local")
    assert result.returncode == 0
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(result.stdout)]
    assert "RayService" in kinds
    assert len(kinds) == sum(
        resource.custom and resource.type.startswith("kubernetes:") and resource.kind != "Release"
        for resource in evaluated("local").resources
    )


@pytest.mark.parametrize("command", ["graph", "manifests"])
def test_an_unknown_stack_is_refused_with_those_that_exist(command: str) -> None:
    assert_refused(offline(command, "--stack", "nowhere"), "'nowhere' does not exist", "local")


@pytest.mark.parametrize("command", ["graph", "manifests"])
def test_a_path_as_a_stack_is_refused(command: str) -> None:
    assert_refused(offline(command, "--stack", "../secrets"), "'../secrets' cannot name a stack")


@pytest.mark.parametrize(
    ("stack", "parts"),
    [
        ("config:\n  demo:size: [1\n", ("Pulumi.dev.yaml, line 3, column 1",)),
        ("config:\n  demo:size: big\n", ("size: 'big' is not of the type integer", "Pulumi.yaml declares")),
        ("config:\n  demo:size: 10\n", ("demo:size: 10 is too large; at most 9",)),
    ],
    ids=["malformed", "wrong type", "refused by the program"],
)
def test_a_bad_stack_file_is_refused(small: Path, stack: str, parts: tuple[str, ...]) -> None:
    file = small / "Pulumi.dev.yaml"
    before = file.read_text()
    file.write_text(stack)
    try:
        assert_refused(offline("graph", "--stack", "dev", "--project-dir", str(small)), *parts)
    finally:
        file.write_text(before)


def test_a_directory_without_a_project_is_refused(tmp_path: Path) -> None:
    assert_refused(offline("graph", cwd=tmp_path), "no Pulumi.yaml", "--project-dir")
    assert_refused(offline("graph", "--project-dir", str(tmp_path)), "no Pulumi.yaml", "--project-dir")


def test_a_project_without_a_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: demo")
    (tmp_path / "Pulumi.local.yaml").write_text("")
    assert_refused(offline("graph", cwd=tmp_path), "__main__.py is missing")


def test_a_broken_program_is_an_error_of_another_kind(make_project: MakeProject) -> None:
    project = make_project("1 / 0")
    result = offline("graph", "--stack", "dev", "--project-dir", str(project))
    assert result.returncode == 1
    assert result.stdout == ""
    assert "ZeroDivisionError" in result.stderr
    assert str(CHECKOUT / "offline") not in result.stderr


@pytest.mark.parametrize("arguments", [(), ("graf",), ("graph", "--format", "xml"), ("graph", "--stack")])
def test_a_wrong_command_line_is_answered_with_its_usage(arguments: tuple[str, ...]) -> None:
    result = offline(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m offline")


def test_a_reader_that_leaves_is_no_error(small: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "offline", "graph", "--stack", "dev", "--project-dir", str(small)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    complaint = process.stderr.read().decode()
    assert process.wait(timeout=120) == 128 + signal.SIGPIPE
    assert "BrokenPipe" not in complaint


def test_ctrl_c_is_quiet_and_leaves_no_process(make_project: MakeProject) -> None:
    marker_program = """
        import pathlib, os, time
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(600)
    """
    project = make_project(marker_program)
    process = subprocess.Popen(
        [sys.executable, "-m", "offline", "graph", "--stack", "dev", "--project-dir", str(project)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: (project / "pid").exists() and (project / "pid").read_text() != "")
    process.send_signal(signal.SIGINT)
    output, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert (output, complaint) == (b"", b"")
    child = int((project / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists())
