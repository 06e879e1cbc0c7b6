"""What cannot work fails before it costs money: one stack with everything wrong, as a user runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]

SERVICE = {
    "app": "llm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "accelerator": "neuron",
    "instanceType": "inf2.8xlarge",
    "tensorParallel": 2,
    "image": "neuron-serve/neuron:0.1.0",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's own program with the `dev` stack, to be changed."""
    for name in ("__main__.py", "infra", "workloads", "serve_apps", "chat_ui"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    shutil.copy(CHECKOUT / "Pulumi.yaml", tmp_path)
    return tmp_path


def refused(project: Path, services: dict[str, dict[str, Any]], **aws: Any) -> str:
    stack = yaml.safe_load((CHECKOUT / "Pulumi.dev.yaml").read_text())
    config = stack["config"]
    config["neuron-serve:services"] = {name: SERVICE | change for name, change in services.items()}
    config["neuron-serve:aws"] |= aws
    (project / "Pulumi.dev.yaml").write_text(yaml.safe_dump(stack))
    result = subprocess.run(
        [sys.executable, "-m", "offline", "graph", "--stack", "dev", "--project-dir", str(project)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_services_that_cannot_work_are_refused_all_at_once(project: Path) -> None:
    message = refused(
        project,
        {
            "degree": {"tensorParallel": 3},
            "cores": {"tensorParallel": 8},
            "memory": {"tensorParallel": 1, "slots": 32},
            "context": {"maxModelLen": 65536},
            "family": {"model": "google/gemma-2b", "gated": False},
            "type": {"instanceType": "inf2.4xlarge"},
            "lonely": {"ha": True},
        },
    )
    for part in (
        "services.degree.tensorParallel: 3 is not possible on inf2.8xlarge",
        "services.cores.tensorParallel: 8 is not possible on inf2.8xlarge with its 2 NeuronCores; choose one",
        "services.memory.tensorParallel: with 1 a replica needs",
        "it fits with tensorParallel 2, or slots",
        "services.context.maxModelLen: 65536 is beyond the context of",
        "services.family.model: 'google/gemma-2b' is of the family 'gemma'",
        "services.type.instanceType: 'inf2.4xlarge' is not a Neuron instance type known here",
        "services.lonely.replicas.min: 1 and ha: true exclude each other",
    ):
        assert part in message, part


def test_mistakes_in_the_file_are_told_all_at_once_and_in_its_own_words(project: Path) -> None:
    message = refused(
        project,
        {"chat": {"slots": "8", "replicas": 3, "maxInputTokens": 64}, "other": {"app": "lmm"}},
        nodePools=[{"name": "inf2", "instanceTypes": "inf2.8xlarge", "maxNeuronDevices": 3}],
    )
    assert message.splitlines() == [
        "error: invalid configuration, nothing was changed:",
        "  - aws.nodePools[0].instanceTypes: 'inf2.8xlarge' is text; write a list with one entry or more, "
        "like ['inf2.8xlarge']",
        "  - services.chat.replicas: 3 is a number; write a mapping, like {min: 1, max: 1}",
        "  - services.chat.slots: '8' is text; write a whole number from 1 to 256, like 8, without quotes",
        "  - services.chat.maxInputTokens: unknown key here; only app 'embeddings' has it",
        "  - services.other.app: 'lmm' is not allowed; write one of 'bring-your-own', 'embeddings', 'llm' or "
        "'stable-diffusion'",
    ]


@pytest.mark.parametrize(
    ("services", "aws", "parts"),
    [
        (
            {"a": {"instanceType": "trn1.2xlarge"}, "b": {"replicas": {"min": 4, "max": 4}}},
            {},
            (
                "services.a.instanceType: no node pool has trn1.2xlarge ('inf2' has inf2.8xlarge)",
                "maxNeuronDevices: 3 Neuron devices are fewer than the 4",
            ),
        ),
        (
            {"a": {"replicas": {"min": 2, "max": 2}}},
            {},
            ("services.a.upgrade: 'new-cluster' needs 4 Neuron devices", "or say upgrade: recreate"),
        ),
        (
            {"a": {}},
            {"prices": {"nat-gatway": 1}},
            ("aws.prices.nat-gatway: nothing of this name is bought; did you mean 'nat-gateway'?",),
        ),
    ],
    ids=["pool", "roll-out", "price"],
)
def test_services_that_do_not_fit_together_are_refused(
    project: Path, services: dict[str, dict[str, Any]], aws: dict[str, Any], parts: tuple[str, ...]
) -> None:
    message = refused(project, services, **aws)
    for part in parts:
        assert part in message, part
