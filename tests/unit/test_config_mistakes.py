"""Mistakes in stack files are answered in the words of stack files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from infra.config import StackConfig
from infra.config_keys import ANY_NAME, KeyTree
from infra.config_model import ConfigModel
from infra.config_phrases import shown
from infra.secrets_config import SECRET_KEYS
from tests.unit.config_mistakes import ON_A_CLUSTER, ON_AWS, changed, findings, read

KEYS = KeyTree(StackConfig)
BASES = {"on a cluster": ON_A_CLUSTER, "on AWS": ON_AWS}
# pydantic's words, and names of classes, which no user has heard of.
FOREIGN = re.compile(
    r"Input should|Extra inputs|Field required|pydantic|type=|validation error|dictionary|instance of"
    r"|\b(StackConfig|LlmService|PodSize|Replicas|NodePool|SystemNodes|AddOns|ModelShape|None|True|False)\b"
)


def mistakes() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Section, change of a valid stack and findings: `config_mistakes.txt` has one after the other."""
    section, change, said = "", "", list[str]()
    for line in [*Path(__file__).with_name("config_mistakes.txt").read_text().splitlines(), "# end"]:
        if line.startswith("    "):
            said.append(line.strip())
            continue
        if said:
            yield section, change, tuple(said)
        change, said = line, []
        section = line.removeprefix("# ") if line.startswith("# ") else section


@pytest.mark.parametrize(
    ("section", "change", "said"), [pytest.param(*mistake, id=mistake[1]) for mistake in mistakes()]
)
def test_a_mistake_is_answered_with_exactly_this(
    section: str, change: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    base, _, as_secrets = section.partition(", as ")
    changes = read(change, tmp_path)
    keys = changed(BASES[base], changes)
    secrets = {key: keys.pop(key) for key in changes} if as_secrets else {}
    assert findings(keys, secrets) == said


def test_no_secret_of_these_mistakes_is_shown() -> None:
    for _, change, said in mistakes():
        for secret in re.findall(r"hunter2|hf_visible|sk-\w+|pass word", change):
            key = f".{secret}:"
            assert secret not in " ".join(said).replace(key, ""), change


def test_a_number_that_yaml_kept_is_taken_as_the_text_that_it_is() -> None:
    aws = {"cluster": {"version": 1.35}, "karpenter": {"amiDate": 20260714}}
    assert findings(changed(ON_AWS, {"aws": aws})) == ()


def test_a_whole_number_may_be_written_like_a_fraction() -> None:
    assert findings(changed(ON_A_CLUSTER, {"services": {"chat": {"slots": 8.0, "maxModelLen": 2e3}}})) == ()


def models(base: type[ConfigModel] = ConfigModel) -> Iterator[type[ConfigModel]]:
    for model in base.__subclasses__():
        yield from models(model) if model.__subclasses__() else (model,)


FIELDS = [(model, name) for model in models() for name in model.model_fields]


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_every_key_has_an_example_that_it_takes(model: type[ConfigModel], name: str) -> None:
    field = model.model_fields[name]
    key = KeyTree(model).at((field.alias or name,))
    if key.kind == "boolean":
        return
    assert key.example is not None
    TypeAdapter(field.rebuild_annotation()).validate_python(key.example)


def every_value(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    match value:
        case dict():
            entries = list(value.items())
        case list():
            entries = list(enumerate(value))
        case _:
            entries = []
    for part, entry in entries:
        yield from every_value(entry, (*path, part))


def damaged(value: Any, path: tuple[Any, ...], damage: Any) -> Any:
    if not path:
        return damage
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = damaged(value[path[0]], path[1:], damage)
    return copy


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab1.-:/ é'\"\n", max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["min", "slots", "name", "app", "Bogus"]), inner, max_size=2)
    ),
    max_leaves=4,
)
FULL = changed(
    ON_AWS,
    {
        "gcsStore": {"kind": "elasticache", "nodes": 2},
        "monitoring": {"enabled": True, "chartValues": {}},
        "services": {
            "chat": {"replicas": {"min": 1, "max": 2}, "head": {"cpus": 1, "memoryGib": 2}},
            "own": {
                "app": "bring-your-own",
                "accelerator": "cpu",
                "image": "i:1",
                "importPath": "a:b",
                "deployments": [{"name": "A"}],
                "grpc": {"servicerFunctions": ["a.b"]},
            },
        },
    },
)


def known_paths() -> re.Pattern[str]:
    """What a finding begins with: the path of a key, of an item or of a named entry, or an unknown key."""
    paths = {*KEYS.paths(), *SECRET_KEYS, f"services.{ANY_NAME}", f"aws.prices.{ANY_NAME}"}
    known = "|".join(
        re.escape(path).replace(ANY_NAME, r"[\w-]+").replace(r"\[\]", r"\[\d+\]") for path in paths
    )
    return re.compile(rf"({known})(\[\d+\])?: |[\w.\[\]]+: unknown key")


PATHS = known_paths()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_damage_of_a_stack_is_answered_in_words_of_others(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([path for path in every_value(FULL) if path]))
    keys: Mapping[str, Any] = damaged(FULL, place, data.draw(VALUES))
    for finding in findings({key: value for key, value in keys.items() if value is not None}):
        quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", finding)
        assert not FOREIGN.search(quoted), finding
        assert PATHS.match(finding), finding


def test_a_long_value_is_shown_in_part() -> None:
    assert shown("x" * 200) == "'" + "x" * 78 + "…"
