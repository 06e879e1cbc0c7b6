"""`--help` of every command is written for those who read no code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

import client.__main__
import offline.__main__

Main = Callable[[Sequence[str] | None], int]
MAINS: dict[str, Main] = {"client": client.__main__.main, "offline": offline.__main__.main}


def help_of(main: Main, command: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("package", MAINS)
def test_help_has_no_leftovers_of_docstrings_and_says_what_each_option_does(
    package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wide enough for no text to be broken into lines.
    monkeypatch.setenv("COLUMNS", "400")
    main = MAINS[package]
    overview = help_of(main, (), capsys)
    commands = re.findall(r"^    ([a-z-]+) ", overview, re.MULTILINE)
    assert len(commands) >= 4
    for page in [overview, *(help_of(main, (command,), capsys) for command in commands)]:
        assert not re.search(r"`|(?<!\w):\w+:|Raises|Error\b|exit code\.|\breturns the", page), page
        _, description, *_ = page.split("\n\n")
        assert re.match(r"[A-Z].*\.$", description.strip(), re.DOTALL), description
        # An option that is long has its text on the next line.
        for option in re.findall(r"^ {2,4}(?:-|[a-z{]).*$", re.sub(r"\n {10,}", "  ", page), re.MULTILINE):
            assert re.search(r"\S {2,}\w+.* .*", option), option
