"""Commands of the pages that need an account, a cluster or a CLI: at least their arguments are right."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from client.__main__ import _parser as client_parser
from infra.secrets_config import SECRET_KEYS
from offline.__main__ import _parser as offline_parser
from offline.manifests import manifests
from tests.documented import ROOT, documented
from tests.graph.conftest import Evaluated

# What a page may say to the Pulumi CLI (https://www.pulumi.com/docs/iac/cli/commands/, 2026-11).
PULUMI = {
    ("cancel",): set(),
    ("up",): {"--config-file", "--plan"},
    ("preview",): {"--refresh", "--expect-no-changes", "--save-plan"},
    ("refresh",): {"--preview-only", "--expect-no-changes"},
    ("destroy",): set(),
    ("stack",): set(),
    ("stack", "init"): {"--secrets-provider"},
    ("stack", "output"): {"--show-secrets"},
    ("config",): set(),
    ("config", "set"): {"--secret"},
}
KUBECTL: dict[str, set[str]] = {
    "apply": set(),
    "get": {"--namespace", "--output"},
    "describe": {"--namespace", "--selector"},
    "logs": {"--namespace", "--selector", "--tail", "--previous"},
    "config": set(),
    "delete": {"--all-namespaces", "--selector"},
    "port-forward": {"--namespace"},
    "drain": set(),
}
KUBECTL_SWITCHES = {"--all-namespaces", "--previous"}
# Made by a chart, or by another choice of `gcsStore` than that of the stacks here.
ELSEWHERE = {("namespace", "kube-system"), ("namespace", "gcs-store")}
GRAFANA = "kubectl port-forward --namespace monitoring service/monitoring-grafana 3000:80"
ROUTES = {"/v1/chat/completions", "/v1/embeddings", "/infer", "/imagine", "/", "/guess"}


def words(command: str) -> list[str]:
    return shlex.split(command.partition(" > ")[0])


def options(arguments: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in arguments if word.startswith("--")}


@pytest.mark.parametrize("command", documented("pulumi"))
def test_pulumi(command: str, evaluated: Evaluated) -> None:
    _, *arguments = words(command)
    verbs = arguments[:2] if tuple(arguments[:2]) in PULUMI else arguments[:1]
    assert options(arguments) <= PULUMI[tuple(verbs)]
    rest = [word for word in arguments[len(verbs) :] if not word.startswith("-")]
    if verbs == ["stack", "init"] and rest:
        file = f"Pulumi.{rest[0]}.yaml"
        copies = {words(copy)[-1] for copy in documented("cp")}
        assert (ROOT / file).is_file() or (ROOT / f"examples/{rest[0]}").is_dir() or file in copies
    if verbs == ["stack", "output"] and rest:
        known = evaluated("dev").outputs.keys() | evaluated("prod").outputs.keys()
        assert rest[0] in known
    if verbs == ["config", "set"]:
        assert rest[0].removeprefix("neuron-serve:") in {*SECRET_KEYS, "KEY"}


@pytest.mark.parametrize("command", documented("kubectl"))
def test_kubectl(command: str, evaluated: Evaluated) -> None:
    _, verb, *arguments = words(command)
    assert options(arguments) <= KUBECTL[verb]
    values = {
        option: arguments[arguments.index(option) + 1] for option in options(arguments) - KUBECTL_SWITCHES
    }
    objects = ELSEWHERE | {
        (made["kind"].lower(), made["metadata"]["name"])
        for stack in ("dev", "prod")
        for made in manifests(evaluated(stack), {}).objects
    }
    if "--namespace" in values:
        assert ("namespace", values["--namespace"]) in objects
    if verb == "port-forward" and arguments:
        assert command in {GRAFANA, *evaluated("dev").outputs["portForward"].values()}
    named = [word for word in arguments if not word.startswith("--") and word not in values.values()]
    if verb in ("get", "describe") and values.get("--namespace") in arguments[2:] and len(named) == 2:
        assert tuple(named) in objects


@pytest.mark.parametrize("command", documented("aws"))
def test_aws(command: str) -> None:
    """Every operation and option is one that botocore's models have."""
    _, service, operation, *arguments = words(command)
    if operation in ("get-token", "ls"):
        return  # commands that the AWS CLI adds to the API's
    model = botocore.session.get_session().get_service_model({"s3api": "s3"}.get(service, service))
    (name,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
    shape = model.operation_model(name).input_shape
    assert shape is not None
    known = {f"--{xform_name(member, '-')}" for member in shape.members} | {"--query"}
    assert options(arguments) <= known


@pytest.mark.parametrize("command", documented("curl"))
def test_curl(command: str) -> None:
    _, *arguments = words(command)
    flags = {word for word in arguments if re.fullmatch(r"-\w|--[\w-]+", word)}
    assert flags <= {"-G", "-H", "-d", "--data-urlencode", "--output"}
    (url,) = [word for word in arguments if word.startswith("http")]
    assert url.removeprefix("http://127.0.0.1:8000") in ROUTES
    if "-d" in arguments:
        json.loads(arguments[arguments.index("-d") + 1])


@pytest.mark.parametrize("command", documented("docker"))
def test_docker(command: str) -> None:
    _, verb, *arguments = words(command)
    assert verb == "build"
    assert {word for word in arguments if word.startswith("-")} <= {"-f", "-t", "--build-arg"}
    context = Path(arguments[-1])
    file = Path(arguments[arguments.index("-f") + 1]) if "-f" in arguments else context / "Dockerfile"
    assert (ROOT / file).is_file()
    for pair in re.findall(r"--build-arg (\w+)=", command):
        assert f"ARG {pair}=" in (ROOT / file).read_text()


def test_files_that_are_copied_exist() -> None:
    copied = [words(command) for command in documented("cp")]
    assert copied
    # A stack file goes to where Pulumi looks for it, under the name of the stack.
    stack_file = re.compile(r"\.|Pulumi\.[a-z]+\.yaml")
    assert all((ROOT / source).is_file() and stack_file.fullmatch(target) for _, source, target in copied)


@pytest.mark.parametrize("command", documented("make"))
def test_make(command: str) -> None:
    _, target, *variables = words(command)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target in targets
    arguments = [shlex.split(text.removeprefix("ARGS=")) for text in variables if text.startswith("ARGS=")]
    if target.startswith("local") and arguments:
        what = {"local": "run", "local-status": "status", "local-stop": "stop"}[target]
        chosen = offline_parser().parse_args([what, *arguments[0]])
        assert chosen.stack_file is None or (ROOT / chosen.stack_file).is_file()


@pytest.mark.parametrize("command", documented(".venv/bin/python -m client"))
def test_client(command: str) -> None:
    chosen = client_parser().parse_args(words(command)[3:])
    assert chosen.base_url.startswith("http://127.0.0.1:")


def test_modules_that_are_run_exist() -> None:
    modules = {words(command)[2] for command in documented(".venv/bin/python -m")}
    assert {"offline", "client", "benchmarks.trivial_server"} <= modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
