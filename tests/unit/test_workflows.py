"""The workflows: audited, pinned, and in step with what the project pins elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def workflow(name: str) -> dict[Any, Any]:
    return read(ROOT / ".github/workflows" / name)


def test_an_audit_finds_nothing() -> None:
    audit = subprocess.run(
        [Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", ".github"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit_with_its_version(path: Path) -> None:
    for line in re.findall(r"uses: .*", path.read_text()):
        assert PINNED.fullmatch(line) or line.startswith("uses: $/.github/"), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_says_what_it_may_do(path: Path) -> None:
    content = read(path)
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job or "uses" in job, name
    # YAML reads the key `on` as true.
    assert "pull_request_target" not in content[True]


def test_only_workflows_that_need_it_write() -> None:
    writers = {
        (path.name, name, scope)
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
        for scope, right in job["permissions"].items()
        if right == "write" and scope != "id-token"
    }
    assert writers == {("preview-comment.yml", "comment", "pull-requests")}


def test_a_pull_request_from_a_fork_gets_no_credentials() -> None:
    jobs = workflow("preview.yml")["jobs"]
    with_token = {name for name, job in jobs.items() if "id-token" in job["permissions"]}
    assert with_token == {"preview"}
    assert "head.repo.full_name == github.repository" in jobs["preview"]["if"]


def test_scripts_take_values_from_the_environment_only() -> None:
    for path in (*WORKFLOWS, *ACTIONS):
        for script in re.findall(r"(?:run|script): \|\n((?:\s{6,}.*\n|\n)+)", path.read_text()):
            assert "${{" not in script, path.name


def test_a_deployment_waits_for_its_environment() -> None:
    assert "environment" in workflow("deploy.yml")["jobs"]["apply"]
    destroy = workflow("destroy.yml")["jobs"]
    assert destroy["destroy"]["needs"] == "confirm"
    assert "environment" in destroy["destroy"]


@pytest.mark.parametrize(("typed", "code"), [("prod", 0), ("pro", 1), ("", 1), ("$(exit 0)", 1)])
def test_destroy_compares_what_was_typed(typed: str, code: int) -> None:
    (step,) = workflow("destroy.yml")["jobs"]["confirm"]["steps"]
    result = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        env={"STACK": "prod", "CONFIRMATION": typed, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert result.returncode == code


def test_the_session_outlives_the_job() -> None:
    for name, job in (("deploy.yml", "apply"), ("destroy.yml", "destroy")):
        content = workflow(name)["jobs"][job]
        (pulumi,) = [step for step in content["steps"] if step.get("uses", "").endswith("/actions/pulumi")]
        assert int(pulumi["with"]["duration"]) >= content["timeout-minutes"] * 60


def test_the_cli_is_the_sdks_version() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    )
    steps = [step for path in ACTIONS for step in read(path)["runs"]["steps"]]
    steps += [
        step for path in WORKFLOWS for job in read(path)["jobs"].values() for step in job.get("steps", [])
    ]
    installed = [step["with"]["pulumi-version"] for step in steps if "pulumi/actions" in step.get("uses", "")]
    assert installed
    assert set(installed) == {pins["pulumi"]}


def test_the_documented_policies_are_policies() -> None:
    page = (ROOT / "docs/pull-requests.md").read_text()
    documents = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    statements = [statement for document in documents for statement in document["Statement"]]
    trusts = [statement for statement in statements if "Principal" in statement]
    assert len(trusts) == 2
    for trust in trusts:
        assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
        conditions = trust["Condition"]["StringEquals"]
        assert conditions["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
        subjects = conditions["token.actions.githubusercontent.com:sub"]
        assert all(
            subject.startswith("repo:ORG/REPO:") and "*" not in subject
            for subject in (subjects if isinstance(subjects, list) else [subjects])
        )
    for statement in statements:
        assert statement["Effect"] == "Allow"
        assert "*" not in statement["Action"]


def test_the_variables_of_the_workflows_are_documented() -> None:
    page = (ROOT / "docs/pull-requests.md").read_text()
    used = {name for path in WORKFLOWS for name in re.findall(r"vars\.(\w+)", path.read_text())}
    assert used == set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE))
