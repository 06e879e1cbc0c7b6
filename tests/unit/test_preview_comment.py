"""The script that posts the stack diff, run by Node.js against a GitHub that only remembers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NODE = Path(playwright.__file__).parent / "driver/node"
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/preview-comment.yml").read_text())
SCRIPT = WORKFLOW["jobs"]["comment"]["steps"][1]["with"]["script"]
HEAD = "a" * 40

# What actions/github-script gives a script: `require`, `github`, `context`, `core`.
HARNESS = """
const scene = JSON.parse(process.env.SCENE);
const calls = [];
const remember = (name, answer) => async (arguments_) => { calls.push([name, arguments_]); return answer; };
const github = {
  rest: {
    pulls: { get: remember('get', { data: { head: { sha: scene.head } } }) },
    issues: {
      listComments: 'list',
      createComment: remember('create', {}),
      updateComment: remember('update', {}),
    },
  },
  paginate: async () => scene.comments,
};
const say = (name) => (text) => calls.push([name, text]);
const core = { setFailed: say('failed'), notice: say('notice') };
const context = { repo: { owner: 'ORG', repo: 'REPO' }, payload: { workflow_run: { head_sha: scene.ran } } };
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction('require', 'github', 'context', 'core', process.env.SCRIPT)(require, github, context, core)
  .then(() => console.log(JSON.stringify(calls)));
"""


def run(
    report: Path, number: str, text: str, *, comments: list[dict[str, Any]] | None = None, head: str = HEAD
) -> list[Any]:
    (report / "pull-request").write_text(number)
    (report / "diff.md").write_text(text)
    scene = {"head": head, "ran": HEAD, "comments": comments or []}
    environment = {**os.environ, "SCENE": json.dumps(scene), "SCRIPT": SCRIPT, "REPORT": str(report)}
    result = subprocess.run(
        [NODE, "-e", HARNESS], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def comment(login: str, body: str) -> dict[str, Any]:
    return {"id": 7, "user": {"login": login}, "body": body}


MARKER = "<!-- neuron-serve: stack diff -->"


def test_the_first_run_makes_a_comment(tmp_path: Path) -> None:
    *_, (verb, arguments) = run(tmp_path, "12\n", "### Stacks")
    assert (verb, arguments["issue_number"], arguments["owner"]) == ("create", 12, "ORG")
    assert arguments["body"].startswith(MARKER)
    assert arguments["body"].endswith("### Stacks")


def test_later_runs_update_it(tmp_path: Path) -> None:
    *_, (verb, arguments) = run(
        tmp_path, "12", "new", comments=[comment("github-actions[bot]", f"{MARKER}\nold")]
    )
    assert (verb, arguments["comment_id"]) == ("update", 7)


def test_nobody_elses_comment_is_touched(tmp_path: Path) -> None:
    *_, (verb, _) = run(tmp_path, "12", "new", comments=[comment("somebody", f"{MARKER}\nold")])
    assert verb == "create"


@pytest.mark.parametrize("number", ["", "0", "12; rm -rf /", "1e9", "-1", "../12", "99999999999", "12\n13"])
def test_what_is_no_number_fails(tmp_path: Path, number: str) -> None:
    assert run(tmp_path, number, "x") == [["failed", "the artifact names no pull request"]]


def test_another_pull_request_cannot_be_named(tmp_path: Path) -> None:
    calls = run(tmp_path, "12", "x", head="b" * 40)
    assert [name for name, _ in calls] == ["get", "notice"]


def test_the_text_mentions_nobody_hides_nothing_and_fits(tmp_path: Path) -> None:
    *_, (_, arguments) = run(tmp_path, "12", f"@org/team {MARKER}{'x' * 100_000}")
    body = arguments["body"]
    assert "@org" not in body
    assert body.count("<!--") == 1
    assert len(body) == 65536


def test_a_link_in_the_artifact_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("secret")
    (tmp_path / "pull-request").write_text("12")
    (tmp_path / "diff.md").symlink_to(tmp_path / "elsewhere")
    scene = {"head": HEAD, "ran": HEAD, "comments": []}
    environment = {**os.environ, "SCENE": json.dumps(scene), "SCRIPT": SCRIPT, "REPORT": str(tmp_path)}
    result = subprocess.run(
        [NODE, "-e", HARNESS], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "ELOOP" in result.stderr
