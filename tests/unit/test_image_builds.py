"""What an image is called: by all that goes into it, and by nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from infra.checkout import ROOT
from infra.image_builds import RECIPES, ImageBuild, image_build

REPOSITORY = "123456789012.dkr.ecr.us-west-2.amazonaws.com/demo"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what images are made of."""
    for name in ("images", "chat_ui"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


def build(name: str, root: Path) -> ImageBuild:
    return image_build(name, REPOSITORY, root=root, directory=root.parent / "contexts")


@pytest.mark.parametrize("name", RECIPES)
def test_a_build_has_every_file_that_its_dockerfile_copies(name: str, checkout: Path) -> None:
    made = build(name, checkout)
    stage = until_the_end_of(made.target, made.dockerfile.read_text())
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", stage, re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (made.context / source).exists(), source


def until_the_end_of(target: str | None, dockerfile: str) -> str:
    if target is None:
        return dockerfile
    stages = re.split(r"^(?=FROM )", dockerfile, flags=re.MULTILINE)
    (last,) = [i for i, stage in enumerate(stages) if re.match(rf"FROM \S+ AS {target}$", stage, re.M)]
    return "".join(stages[: last + 1])


def test_the_tag_follows_the_content(checkout: Path) -> None:
    before = build("chat-ui", checkout)
    assert re.fullmatch(rf"{re.escape(REPOSITORY)}:chat-ui-[0-9a-f]{{16}}", before.reference)
    assert build("chat-ui", checkout) == before
    (checkout / "chat_ui/page.py").open("a").write("# edited\n")
    after = build("chat-ui", checkout)
    assert after.reference != before.reference
    assert after.context != before.context


def test_the_apps_code_is_no_part_of_the_neuron_image(checkout: Path) -> None:
    made = build("neuron", checkout)
    assert sorted(path.name for path in made.context.iterdir()) == ["images"]


def test_what_tools_leave_behind_changes_nothing(checkout: Path) -> None:
    before = build("chat-ui", checkout)
    (checkout / "chat_ui/__pycache__").mkdir(exist_ok=True)
    (checkout / "chat_ui/__pycache__/page.cpython-311.pyc").write_bytes(b"\0")
    (checkout / "chat_ui/.page.py.swp").write_bytes(b"\0")
    assert build("chat-ui", checkout) == before


def test_a_context_that_is_there_is_not_written_again(checkout: Path) -> None:
    made = build("chat-ui", checkout)
    written = made.dockerfile.stat().st_mtime_ns
    assert build("chat-ui", checkout).dockerfile.stat().st_mtime_ns == written
    assert [path.name for path in made.context.parent.iterdir()] == [made.context.name]
