"""The Dockerfiles say what the cluster needs: read here, because building needs a container engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import versions

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*.Dockerfile"))
EACH = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def pins(path: Path) -> dict[str, str]:
    """Exact versions of a requirements file, without extras."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^;\s]+)", line) for line in lines]
    return {match[1].lower(): match[2] for match in found if match}


def test_there_are_three_images() -> None:
    names = [path.name for path in DOCKERFILES]
    assert names == ["chat-ui.Dockerfile", "cpu.Dockerfile", "neuron.Dockerfile"]


@EACH
def test_base_images_are_pinned(dockerfile: Path) -> None:
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)", dockerfile.read_text(), re.MULTILINE)
    assert bases
    for base in bases:
        assert re.search(r":\d+\.\d+\.\d+", base), base


@EACH
def test_the_last_stage_does_not_run_as_root(dockerfile: Path) -> None:
    last_stage = dockerfile.read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER 1000$", last_stage, re.MULTILINE)


@EACH
def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile: Path) -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(r"^COPY (?!--from)(\S+) ", dockerfile.read_text(), re.MULTILINE)
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in allowed), source


def test_the_ray_image_has_what_kuberay_calls() -> None:
    last_stage = (ROOT / "images/cpu.Dockerfile").read_text().split("\nFROM ")[-1]
    assert "bash wget" in last_stage
    assert "PATH=/opt/venv/bin" in last_stage  # `python` and `ray`


@pytest.mark.parametrize("name", ["requirements-cpu.txt", "requirements-chat-ui.txt"])
def test_images_and_tests_run_the_same_versions(name: str) -> None:
    tested = pins(ROOT / "requirements.txt") | pins(ROOT / "requirements-local.txt")
    built = pins(ROOT / "images" / name)
    assert built
    assert {package: tested.get(package) for package in built} == built


@pytest.mark.parametrize(
    "file", ["requirements.txt", "images/requirements-cpu.txt", "images/requirements-neuron.txt"]
)
def test_one_version_of_ray_everywhere(file: str) -> None:
    assert pins(ROOT / file)["ray"] == versions.RAY


def test_the_neuron_image_pins_everything_and_knows_the_real_wheels() -> None:
    path = ROOT / "images/requirements-neuron.txt"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "--extra-index-url https://pip.repos.neuron.amazonaws.com"
    pinned = pins(path)
    assert len(pinned) == len(lines) - 1
    assert pinned["transformers-neuronx"].startswith("0.13.")
    assert pinned["torch-neuronx"].startswith(f"{pinned['torch']}.")
    # transformers 5 and today's torch need Python 3.11; the base image has 3.10.
    assert pinned["transformers"].startswith("4.")


def test_the_neuron_base_image_and_its_packages_are_of_one_sdk() -> None:
    dockerfile = (ROOT / "images/neuron.Dockerfile").read_text()
    base = re.search(r"^ARG NEURON_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    assert base
    torch = pins(ROOT / "images/requirements-neuron.txt")["torch"]
    assert base[1].endswith(f":{torch}-neuronx-py310-sdk2.25.0-ubuntu22.04")


def test_the_neuron_image_has_what_kuberay_calls_and_no_compiler() -> None:
    dockerfile = (ROOT / "images/neuron.Dockerfile").read_text()
    assert "command -v python bash wget ray" in dockerfile
    purged = re.search(r"apt-get purge -y ([^&]+)&&", dockerfile)
    assert purged
    assert {"build-essential", "cmake", "g++", "gcc", "git", "make"} <= set(
        purged[1].replace("\\", "").split()
    )


def test_the_stub_packages_are_installed_nowhere_else() -> None:
    for file in ("requirements.txt", "requirements-local.txt", "images/requirements-cpu.txt"):
        assert not {"transformers-neuronx", "torch-neuronx", "neuronx-cc"} & pins(ROOT / file).keys()
