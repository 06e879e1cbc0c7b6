"""Pages are current and lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from offline.config_reference import markdown
from offline.effects_reference import renewed
from offline.errors import OfflineError
from tests.documented import PAGES, ROOT

EACH = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def test_the_configuration_page_is_current() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == markdown(), "run `make docs`"


def test_the_table_of_effects_is_current() -> None:
    page = (ROOT / "docs/placement.md").read_text()
    assert page == renewed(page), "run `make docs`"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(OfflineError, match="the marks"):
        renewed("# A page")


@EACH
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


@EACH
def test_make_targets_in_the_text_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    named |= set(re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


@EACH
def test_files_in_the_text_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:infra|workloads|serve_apps|offline|chat_ui|client|examples|images|docs)/[\w./-]+\w)`",
        page.read_text(),
    )
    for path in named:
        assert (ROOT / path).exists(), f"{page.name}: {path}"
