"""`offline.local.options` and what `report` makes of them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from offline.local.options import RunOptions, default_state_dir, url
from offline.local.ports import Endpoint
from offline.local.preparation import LocalModel
from offline.local.report import Summary

CHECKOUT = Path(__file__).parent.parent.parent
OPTIONS = RunOptions(
    project_dir=CHECKOUT,
    stack="local",
    service=None,
    api=Endpoint("127.0.0.1", 8000, "--api-port"),
    ui=Endpoint("127.0.0.1", 7860, "--ui-port"),
    dashboard=Endpoint("127.0.0.1", 8265, "--dashboard-port"),
    state_dir=default_state_dir(CHECKOUT, "local"),
)


def test_nothing_on_loopback_is_exposed() -> None:
    assert OPTIONS.exposed(api_has_keys=False) == []


def test_an_open_port_without_a_key_is_reported() -> None:
    outside = dataclasses.replace(OPTIONS, api=Endpoint("0.0.0.0", 8000, "--api-port"))
    [warning] = outside.exposed(api_has_keys=False)
    assert "the API on 0.0.0.0:8000 is open to everybody" in warning
    assert outside.exposed(api_has_keys=True) == []


def test_the_page_has_no_key_and_so_is_reported_in_any_case() -> None:
    outside = dataclasses.replace(OPTIONS, ui=Endpoint("0.0.0.0", 7860, "--ui-port"))
    [warning] = outside.exposed(api_has_keys=True)
    assert "the chat page on 0.0.0.0:7860" in warning


def test_an_address_for_all_interfaces_is_reached_through_loopback() -> None:
    assert url(Endpoint("0.0.0.0", 8000, "--api-port")) == "http://127.0.0.1:8000"
    assert url(Endpoint("192.0.2.7", 8000, "--api-port")) == "http://192.0.2.7:8000"


def test_commands_name_only_what_is_not_the_default() -> None:
    assert OPTIONS.command("local-stop") == "make local-stop"
    dev = dataclasses.replace(OPTIONS, stack="dev", state_dir=default_state_dir(CHECKOUT, "dev"))
    assert dev.command("local-stop") == "make local-stop ARGS='--stack dev'"


def test_the_curl_command_survives_a_shell() -> None:
    summary = Summary(
        stack="local",
        model=LocalModel("llm", "package:tiny", "it's/a model", has_keys=True),
        api_url="http://127.0.0.1:8000",
        ui_url=None,
        dashboard_url="http://127.0.0.1:8265",
        token_file=Path("/state/ray-token"),
        api_keys_file=Path("/a state/api-keys"),
        logs=Path("/state/logs"),
        stop="make local-stop",
    )
    command = summary.text().partition("curl ")[2].replace("\\\n", " ")
    words = shlex.split(command)
    assert words[0] == "http://127.0.0.1:8000/v1/chat/completions"
    assert json.loads(words[words.index("-d") + 1])["model"] == "it's/a model"
    assert "Authorization: Bearer $(cat '/a state/api-keys')" in words


def test_a_grpc_entrance_is_open_to_all_and_is_said_to_be() -> None:
    opened = dataclasses.replace(OPTIONS, grpc=Endpoint("0.0.0.0", 9000, "--grpc-port"))
    [warning] = opened.exposed(api_has_keys=True)
    assert "the gRPC entrance on 0.0.0.0:9000 is open to everybody" in warning
    assert "gRPC entrance" in opened.endpoints(with_chat_page=True)
    arguments = opened.run_arguments()
    assert arguments[arguments.index("--grpc-port") + 1] == "9000"
    assert "--grpc-port" not in OPTIONS.run_arguments()
