"""`python -m offline diff` on real git repositories: clones of this project, and small ones, with changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from offline.__main__ import main
from tests.graph.test_offline_cli import CHECKOUT
from tests.waiting import wait_until

THING = """
import pulumi

class Thing(pulumi.CustomResource):
    def __init__(self, name, props, opts=None):
        super().__init__("test:index:Thing", name, props, opts)
"""
PROGRAM = """
import pulumi
from things import Thing
size = pulumi.Config().require_int("size")
Thing("thing", {"size": size})
cost = {"currency": "USD", "min": 1.5 * size, "max": 2.5 * size, "parts": {}, "unknown": []}
pulumi.export("costPerHour", cost)
pulumi.export("neuronCores", {"min": size, "max": 2 * size, "upgradePeak": 4 * size})
"""


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(directory: Path, message: str = "change") -> str:
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)
    return git(directory, "rev-parse", "HEAD")


def diff(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this process: only the evaluations start others."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), chdir(directory):
        try:
            code = main(["diff", *arguments])
        except SystemExit as usage:
            code = int(usage.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: " in result.stderr
    for part in parts:
        assert part in result.stderr


def worktrees(directory: Path) -> int:
    return len(git(directory, "worktree", "list").splitlines())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with a program whose stack `dev` has the size 1."""
    (tmp_path / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {demo:size: 1}\n")
    (tmp_path / "things.py").write_text(THING)
    (tmp_path / "__main__.py").write_text(PROGRAM)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit(tmp_path)
    return tmp_path


def resize(directory: Path, size: int) -> None:
    (directory / "Pulumi.dev.yaml").write_text(f"config: {{demo:size: {size}}}\n")


def test_the_work_tree_is_compared_with_a_commit(small: Path) -> None:
    resize(small, 2)
    result = diff(small, "--base", "HEAD")
    assert result.returncode == 0, result.stderr
    assert "dev: 1 changed · 1 with unknown effect · cost 1.50-2.50 USD/h → 3.00-5.00 USD/h" in result.stdout
    assert "NeuronCores 1-2 → 2-4, 8 during an upgrade" in result.stdout
    assert "! the cost at full scale rises by 100%" in result.stdout
    assert "nothing is known of test:index:Thing" in result.stdout
    assert "size: 1 → 2" in result.stdout
    assert worktrees(small) == 1


def test_two_commits_are_compared_whatever_lies_in_the_work_tree(small: Path) -> None:
    resize(small, 2)
    commit(small)
    (small / "__main__.py").write_text("1 / 0")
    result = diff(small, "--base", "HEAD~1", "--head", "main", "--format", "json")
    (stack,) = json.loads(result.stdout)["stacks"]
    assert [change["path"] for change in stack["changed"][0]["properties"]] == ["size"]
    assert stack["after"]["costPerHour"]["max"] == 5.0


def test_each_revision_has_its_own_modules_and_never_the_tools(small: Path) -> None:
    """The base's program finds neither the head's modules nor this checkout's."""
    (small / "__main__.py").write_text("import policy")
    result = diff(small, "--base", "HEAD~0")
    assert_refused(result, "head the work tree", "'dev'", "No module named 'policy'")
    (small / "__main__.py").write_text("from things import Thing, SIZE\nThing('thing', {'size': SIZE})")
    (small / "things.py").write_text(THING + "SIZE = 7\n")
    result = diff(small, "--base", "HEAD")
    assert "size: 1 → 7" in result.stdout


def test_a_new_stack_is_all_new_and_an_old_one_all_gone(small: Path) -> None:
    (small / "Pulumi.dev.yaml").rename(small / "Pulumi.prod.yaml")
    result = diff(small, "--base", "HEAD")
    assert "dev: 2 removed" in result.stdout
    assert "prod: 2 added" in result.stdout
    assert "the base has no file for this stack" in result.stdout


def test_a_base_from_before_the_project_has_nothing(small: Path) -> None:
    empty = git(small, "commit-tree", "-m", "empty", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    result = diff(small, "--base", empty)
    assert result.returncode == 0, result.stderr
    assert "dev: 2 added" in result.stdout


def test_a_project_below_the_repositorys_root_is_found(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("above")
    shutil.copytree(small, root / "deploy/demo", ignore=shutil.ignore_patterns(".git"))
    git(root, "init", "--quiet")
    commit(root)
    resize(root / "deploy/demo", 3)
    assert "size: 1 → 3" in diff(root / "deploy/demo", "--base", "HEAD").stdout


def test_a_file_takes_the_report(small: Path) -> None:
    result = diff(small, "--base", "HEAD", "--output", "report.md")
    assert result.stdout == ""
    assert (small / "report.md").read_text() == "### Stacks: HEAD (" + git(small, "rev-parse", "HEAD")[
        :12
    ] + (") → the work tree\n\n- **dev**: no change\n")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--base", "nowhere"), ("'nowhere' names no commit", "git fetch origin")),
        (("--base", "--upload-pack=x"), ()),
        (("--base", "HEAD", "--head", "nowhere"), ("'nowhere' names no commit",)),
        (("--base", "HEAD", "--stack", "prod"), ("'prod' has no file", "HEAD", "the work tree", "dev")),
        (("--base", "HEAD", "--policy-config", "none.json"), ("none.json", "No such file")),
        (("--base", "HEAD", "--policy-config", "Pulumi.yaml"), ("policy configuration is wrong",)),
        (("--base", "HEAD", "--output", "report.pdf"), ("report.pdf", ".md")),
        (("--base", "HEAD", "--output", "no/such/report.md"), ("--output", "No such file")),
    ],
)
def test_bad_input_is_refused_with_the_way_out(
    small: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    result = diff(small, *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    assert worktrees(small) == 1


def test_a_directory_without_a_repository_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(small / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(small.parent))
    assert_refused(diff(small, "--base", "HEAD"), "not in a git repository")


def test_a_shallow_clone_says_how_to_fetch(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = git(small, "rev-parse", "HEAD")
    commit(small)
    clone = tmp_path_factory.mktemp("shallow")
    git(clone, "clone", "--quiet", "--depth", "1", f"file://{small}", ".")
    assert_refused(diff(clone, "--base", first), "this clone is shallow", "git fetch", "fetch-depth: 0")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import pulumi\nraise pulumi.RunError('demo:size is wrong')", "demo:size is wrong"),
    ],
    ids=["broken", "refused"],
)
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_side_that_does_not_evaluate_is_named_with_the_reason(
    small: Path, program: str, reason: str, side: str
) -> None:
    whole = git(small, "rev-parse", "HEAD")
    (small / "__main__.py").write_text(program)
    broken = commit(small)
    base, head = (broken, whole) if side == "base" else (whole, broken)
    result = diff(small, "--base", base, "--head", head)
    assert result.returncode == 2
    assert f"error: {side} {broken[:12]}, stack 'dev', does not evaluate" in result.stderr
    assert reason in result.stderr
    assert "neuron-serve-diff-" not in result.stderr
    assert worktrees(small) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_neither_process_nor_worktree(
    small: Path, tmp_path_factory: pytest.TempPathFactory, number: signal.Signals, code: int
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    (small / "__main__.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(small)!r}, 'pid').write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    commit(small)
    process = subprocess.Popen(
        [sys.executable, "-m", "offline", "diff", "--base", "HEAD", "--head", "HEAD"],
        cwd=small,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: (small / "pid").exists() and (small / "pid").read_text() != "")
    assert worktrees(small) > 1
    process.send_signal(number)
    _, complaint = process.communicate(timeout=180)
    assert process.returncode == code
    assert b"Traceback" not in complaint
    child = int((small / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    assert worktrees(small) == 1
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def pull_request(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """This project with one pull request that does all that a reviewer must not miss, to the stack `prod`."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(
        CHECKOUT,
        clone,
        dirs_exist_ok=True,
        symlinks=True,
        ignore=shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", ".*_cache"),
    )
    git(clone, "init", "--quiet")
    commit(clone)
    edit(clone / "infra/gcs_store.py", "at_rest_encryption_enabled=True", "at_rest_encryption_enabled=False")
    edit(clone / "images/requirements-neuron.txt", "jinja2==3.1.6", "jinja2==3.1.5")
    edit(clone / "Pulumi.prod.yaml", "maxNeuronDevices: 78", "maxNeuronDevices: 156")
    program = clone / "__main__.py"
    program.write_text(program.read_text() + OPENING)
    files = {suffix: clone / f"report.{suffix}" for suffix in ("txt", "md", "json")}
    outputs = [argument for file in files.values() for argument in ("--output", str(file))]
    result = diff(clone, "--base", "HEAD", "--stack", "prod", "--fail-on", "new-violations", *outputs)
    assert result.stdout == ""
    assert worktrees(clone) == 1
    return {
        "text": files["txt"].read_text(),
        "markdown": files["md"].read_text(),
        "code": result.returncode,
        **json.loads(files["json"].read_text())["stacks"][0],
    }


OPENING = """
import pulumi_aws as aws
aws.vpc.SecurityGroupIngressRule(
    "debugging", security_group_id="sg-1", ip_protocol="tcp", from_port=22, to_port=22, cidr_ipv4="0.0.0.0/0"
)
"""


def edit(file: Path, old: str, new: str) -> None:
    content = file.read_text()
    assert old in content, f"{file.name} has no {old!r} any more"
    file.write_text(content.replace(old, new))


@pytest.mark.parametrize("format_", ["text", "markdown"])
def test_a_pull_request_shows_what_must_not_be_missed(pull_request: dict[str, Any], format_: str) -> None:
    report = pull_request[format_]
    for warning in (
        "new policy violation, no-open-ingress: SecurityGroupIngressRule debugging: 0.0.0.0/0 may reach",
        "new policy violation, encrypted-services: ReplicationGroup gcs-store: data at rest is not encrypted",
        "a second Ray cluster for mistral-7b: until it has taken over, 48 NeuronCores instead of 24 are held",
        "ReplicationGroup gcs-store is replaced: atRestEncryptionEnabled",
    ):
        assert warning in report
    assert "replicas reload" not in report


def test_a_pull_request_can_be_held_up_by_its_violations(pull_request: dict[str, Any]) -> None:
    assert pull_request["code"] == 1
    assert len(pull_request["violations"]["new"]) == 2


def test_the_rest_of_a_pull_request_is_there_too(pull_request: dict[str, Any]) -> None:
    assert [added["name"] for added in pull_request["added"]] == ["debugging"]
    actions = {changed["name"]: changed["action"] for changed in pull_request["changed"]}
    assert actions["karpenter-inf2"] == "update"
    assert actions["mistral-7b"] == "update"
    assert actions["mistral-7b-check"] == "replace"
