"""What is missing outside the stack file is said before anything is registered."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pytest

from infra import preflight
from infra.config import StackConfig
from infra.config_errors import ConfigError

STACK = StackConfig.model_validate(
    {
        "target": "aws",
        "aws": {
            "zones": ["us-west-2a", "us-west-2b"],
            "cluster": {"version": "1.35"},
            "nodePools": [{"name": "inf2", "instanceTypes": ["inf2.8xlarge"], "maxNeuronDevices": 4}],
        },
        "services": {
            "chat": {"app": "llm", "model": "m", "accelerator": "neuron", "instanceType": "inf2.8xlarge"}
        },
    }
)


class Nobody(pulumi.runtime.Mocks):
    """AWS, for a stack that gets as far as asking it."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, object]]:
        raise AssertionError(f"{args.name} was registered by a check")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, object]:
        raise LookupError(args.token)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURON_SERVE_OFFLINE", "true")


def check(**config: str) -> None:
    pulumi.runtime.set_mocks(Nobody(), project="neuron-serve", stack="dev")
    pulumi.runtime.set_all_config({f"aws:{key}": text for key, text in config.items()})
    preflight.check(STACK)


def findings(**config: str) -> str:
    with pytest.raises(ConfigError) as refused:
        check(**config)
    return str(refused.value)


def test_a_stack_in_its_region_passes() -> None:
    check(region="us-west-2")


def test_a_missing_region_is_refused_with_the_command_that_sets_it() -> None:
    assert "aws:region: missing; set it with `pulumi config set aws:region us-west-2`" in findings()


def test_a_region_that_does_not_hold_the_zones_is_refused() -> None:
    message = findings(region="us-east-1")
    assert "aws:region: 'us-east-1' does not hold aws.zones ['us-west-2a', 'us-west-2b']" in message


@pytest.mark.parametrize("key", ["profile", "accessKey", "secretKey", "token", "assumeRoles"])
def test_credentials_that_kubernetes_would_not_get_are_refused(key: str) -> None:
    message = findings(region="us-west-2", **{key: "hush"})
    assert f"aws:{key}: credentials in the stack file do not reach `aws eks get-token`" in message
    assert "set AWS_PROFILE" in message
    assert "hush" not in message


def test_a_deployment_without_the_aws_cli_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE")
    monkeypatch.setenv("PATH", str(tmp_path))
    message = findings(region="us-west-2")
    assert "the AWS CLI is not on PATH" in message
    assert "https://docs.aws.amazon.com/cli/" in message


def test_a_deployment_with_the_aws_cli_goes_on_to_ask_about_its_zones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE")
    cli = tmp_path / "aws"
    cli.write_text("#!/bin/sh\n")
    cli.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LookupError, match="getInstanceTypeOfferings"):
        check(region="us-west-2")


@pytest.mark.parametrize(("docker_host", "warned"), [("unix:///run/docker.sock", False), (None, True)])
def test_without_docker_a_deployment_is_warned_of_images(
    docker_host: str | None, warned: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEURON_SERVE_OFFLINE")
    monkeypatch.setattr(preflight, "_DOCKER_SOCKET", tmp_path / "docker.sock")
    monkeypatch.setattr(preflight.shutil, "which", lambda _name: "/usr/bin/aws")
    if docker_host:
        monkeypatch.setenv("DOCKER_HOST", docker_host)
    else:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    with pytest.raises(LookupError):
        check(region="us-west-2")
    assert ["there is no Docker here" in text and "images neuron" in text for text in said] == [True] * warned


def test_all_findings_are_said_at_once() -> None:
    message = findings(profile="mine")
    assert "aws:region" in message
    assert "aws:profile" in message
