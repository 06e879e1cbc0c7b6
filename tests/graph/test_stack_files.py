"""Pulumi.yaml and stack files are read and checked as the CLI does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offline.errors import OfflineError
from offline.stack_files import find_project, read_stack, stack_name_of

PROJECT = """
name: demo
runtime: python
config:
  size: {type: integer, default: 3}
  on: {type: boolean, default: false}
  name: {type: string, default: x}
  map: {type: object, default: {}}
  list: {type: array, items: {type: string}, default: []}
  grid: {type: array, items: {type: array, items: {type: integer}}, default: []}
  shorthand: 7
  test:region: {value: here}
"""


def project(directory: Path, stack: str = "", declarations: str = PROJECT) -> Path:
    (directory / "Pulumi.yaml").write_text(declarations)
    (directory / "Pulumi.dev.yaml").write_text(stack)
    return directory


def config(directory: Path, **overrides: Any) -> dict[str, str]:
    return read_stack(directory, "dev", overrides).config


def test_defaults_fill_in_what_the_stack_leaves_out(tmp_path: Path) -> None:
    assert config(project(tmp_path, "config: {demo:size: 4}")) == {
        "demo:size": "4",
        "demo:on": "false",
        "demo:name": "x",
        "demo:map": "{}",
        "demo:list": "[]",
        "demo:grid": "[]",
        "demo:shorthand": "7",
        "test:region": "here",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 8),
        ("size", "8"),
        ("size", 8.0),
        ("on", True),
        ("on", "true"),
        ("name", 1),
        ("map", {"a": 1}),
        ("list", ["a", 1]),
        ("grid", [[1], [2, 3]]),
    ],
)
def test_a_value_of_the_declared_type_passes(tmp_path: Path, key: str, value: Any) -> None:
    assert f"demo:{key}" in config(project(tmp_path), **{key: value})


@pytest.mark.parametrize(
    ("key", "value", "type_"),
    [
        ("size", "many", "integer"),
        ("size", 1.5, "integer"),
        ("size", [1], "integer"),
        ("on", "yes", "boolean"),
        ("name", {"a": 1}, "string"),
        ("map", "a", "object"),
        ("map", ["a"], "object"),
        ("list", {"a": 1}, "array<string>"),
        ("list", [{"a": 1}], "array<string>"),
        ("grid", [[1], ["a"]], "array<array<integer>>"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, key: str, value: Any, type_: str) -> None:
    with pytest.raises(OfflineError) as caught:
        config(project(tmp_path), **{key: value})
    assert f"stack 'dev' does not fit Pulumi.yaml:\n  - {key}: " in str(caught.value)
    assert str(caught.value).endswith(f"is not of the type {type_}, which Pulumi.yaml declares")


def test_a_default_of_another_type_is_refused(tmp_path: Path) -> None:
    declarations = "name: demo\nconfig: {size: {type: integer, default: many}}"
    with pytest.raises(OfflineError, match="size: 'many' is not of the type integer"):
        config(project(tmp_path, declarations=declarations))


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    declarations = "name: demo\nconfig: {size: {type: int, default: 1}}"
    with pytest.raises(OfflineError, match="declares the type 'int'; choose one of string, integer"):
        config(project(tmp_path, declarations=declarations))


def test_an_array_must_say_what_it_holds(tmp_path: Path) -> None:
    declarations = "name: demo\nconfig: {names: {type: array, default: [a]}}"
    with pytest.raises(OfflineError, match="declares an array without its items"):
        config(project(tmp_path, declarations=declarations))


def test_a_declared_key_without_default_must_be_set(tmp_path: Path) -> None:
    declarations = "name: demo\nconfig: {size: {type: integer}, demo:name: {type: string}}"
    with pytest.raises(OfflineError) as caught:
        config(project(tmp_path, declarations=declarations))
    assert str(caught.value).splitlines()[1:] == [
        f"  - {key}: missing, and Pulumi.yaml declares it without a default; add it"
        for key in ("size", "name")
    ]


def test_a_declared_secret_must_not_stand_in_plain_text(tmp_path: Path) -> None:
    declarations = "name: demo\nconfig: {key: {type: string, secret: true}}"
    with pytest.raises(OfflineError, match=r"pulumi config set --secret demo:key") as caught:
        config(project(tmp_path, "config: {demo:key: hunter2}", declarations))
    assert "hunter2" not in str(caught.value)


def test_secrets_are_marked_and_replaced_by_a_placeholder(tmp_path: Path) -> None:
    stack = "config: {demo:size: {secure: v1:abc}, demo:map: {a: 1, b: [{secure: v1:def}]}, demo:name: x}"
    settings = read_stack(project(tmp_path, stack), "dev")
    assert sorted(settings.secret_keys) == ["demo:map", "demo:size"]
    assert "v1:" not in str(settings.config)
    assert settings.config["demo:size"] == "placeholder-of-the-secret-demo-size"


def test_plain_words_and_numbers_stay_what_the_cli_sees(tmp_path: Path) -> None:
    stack = """
config:
  demo:map:
    country: no
    switch: on
    time: 1:30
    date: 2026-11-01
    octal: 0o17
    old-octal: 0123
    underscore: 1_000
    no-octal: 089
    exponent: 1e3
    nothing: null
  demo:name: no
"""
    settings = config(project(tmp_path, stack))
    assert settings["demo:map"] == (
        '{"country": "no", "switch": "on", "time": "1:30", "date": "2026-11-01", '
        '"octal": 15, "old-octal": 83, "underscore": 1000, "no-octal": 89.0, "exponent": 1000.0, '
        '"nothing": null}'
    )
    assert settings["demo:name"] == "no"


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ("config:\n  demo:size: [1\n  demo:on: true", "Pulumi.dev.yaml, line 3, column 10:"),
        ("config:\n\tdemo:size: 1", "Pulumi.dev.yaml, line 2, column 1:"),
        ("config:\n  demo:size: 1\n  demo:size: 2", "line 3, column 3: the key 'demo:size' stands here"),
        ("config:\n  demo:map: {a: 1, a: 2}", "line 2, column 20: the key 'a' stands here"),
        ("config: [1]", "Pulumi.dev.yaml: config holds [1]; it must be a mapping"),
        ("just text", "Pulumi.dev.yaml holds 'just text'; it must be a mapping"),
        ("a: !!python/object/apply:os.getcwd []", "Pulumi.dev.yaml, line 1"),
    ],
)
def test_a_malformed_stack_file_is_named_with_its_line(tmp_path: Path, stack: str, message: str) -> None:
    with pytest.raises(OfflineError) as caught:
        config(project(tmp_path, stack))
    assert message in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (project(tmp_path) / "Pulumi.dev.yaml").write_bytes(b"config: \xff\xfe")
    with pytest.raises(OfflineError, match=r"Pulumi.dev.yaml is not YAML in UTF-8"):
        config(tmp_path)


def test_a_malformed_project_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"Pulumi.yaml, line 1"):
        config(project(tmp_path, declarations="name: [demo"))
    with pytest.raises(OfflineError, match=r"Pulumi.yaml: name is None; a project needs a name"):
        config(project(tmp_path, declarations="runtime: python"))


def test_an_unknown_stack_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    (project(tmp_path) / "Pulumi.prod.yaml").write_text("")
    with pytest.raises(OfflineError, match=r"'stage' does not exist.*stacks here: dev, prod"):
        read_stack(tmp_path, "stage")


@pytest.mark.parametrize("stack", ["../dev", "a/b", "..", "", "a b", "x" * 101, "dév", "dev\n"])
def test_a_name_that_no_stack_can_have_is_refused(tmp_path: Path, stack: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    with pytest.raises(OfflineError, match=r"cannot name a stack|does not exist"):
        read_stack(tmp_path, stack)


def test_a_path_is_never_followed_out_of_the_project(tmp_path: Path) -> None:
    inside = tmp_path / "project"
    inside.mkdir()
    project(inside)
    (tmp_path / "Pulumi.outside.yaml").write_text("config: {demo:size: 1}")
    (inside / "Pulumi..").mkdir()
    with pytest.raises(OfflineError, match="cannot name a stack"):
        read_stack(inside, "./../Pulumi.outside")


def test_the_project_is_found_from_a_directory_below_it(tmp_path: Path) -> None:
    below = project(tmp_path) / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == tmp_path.resolve()


def test_a_place_without_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="--project-dir"):
        find_project(tmp_path)
    with pytest.raises(OfflineError, match="--project-dir"):
        read_stack(tmp_path, "dev")


def test_a_stack_file_from_elsewhere_is_read_in_place_of_the_projects_own(tmp_path: Path) -> None:
    inside = tmp_path / "project"
    inside.mkdir()
    project(inside)
    elsewhere = tmp_path / "Pulumi.other.yaml"
    elsewhere.write_text("config: {demo:size: 5}\n")
    settings = read_stack(inside, stack_name_of(elsewhere), stack_file=elsewhere)
    assert (settings.stack, settings.config["demo:size"]) == ("other", "5")


@pytest.mark.parametrize("name", ["stack.yaml", "Pulumi..yaml", "Pulumi.a b.yaml", "Pulumi.yaml"])
def test_a_stack_file_from_elsewhere_says_its_stack_by_its_name(name: str) -> None:
    with pytest.raises(OfflineError, match=r"must be Pulumi\.<stack>\.yaml"):
        stack_name_of(Path(name))


def test_a_stack_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="there is no such file"):
        read_stack(project(tmp_path), "other", stack_file=tmp_path / "Pulumi.other.yaml")
