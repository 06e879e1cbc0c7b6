"""Property changes: where they are, what they say, and what they never show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline.diff.properties import ABSENT, PropertyChange, changes, shown


def paths(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    return {change.path: (change.before, change.after) for change in changes(before, after)}


def test_the_same_has_no_changes() -> None:
    assert paths({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == {}


def test_nested_properties_are_named_by_their_path() -> None:
    before = {"spec": {"replicas": 1, "gone": True}}
    after = {"spec": {"replicas": 2, "new": "x"}}
    assert paths(before, after) == {
        "spec.replicas": (1, 2),
        "spec.gone": (True, ABSENT),
        "spec.new": (ABSENT, "x"),
    }


def test_null_is_a_value_and_absence_is_not() -> None:
    assert paths({"a": None}, {}) == {"a": (None, ABSENT)}


def test_a_boolean_is_not_a_number() -> None:
    assert paths({"a": True}, {"a": 1}) == {"a": (True, 1)}


def test_keys_with_dots_are_quoted() -> None:
    assert list(paths({"tags": {"a.b/c": 1}}, {"tags": {"a.b/c": 2}})) == ['tags["a.b/c"]']


def test_entries_with_names_are_compared_by_name() -> None:
    before = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    after = {"env": [{"name": "X", "value": "0"}, {"name": "A", "value": "1"}, {"name": "B", "value": "3"}]}
    assert paths(before, after) == {
        "env[B].value": ("2", "3"),
        "env[X]": (ABSENT, {"name": "X", "value": "0"}),
    }


def test_an_order_that_changes_is_a_change() -> None:
    groups = [{"groupName": "a"}, {"groupName": "b"}]
    assert paths({"groups": groups}, {"groups": groups[::-1]}) == {"groups.(order)": (["a", "b"], ["b", "a"])}


def test_lists_of_plain_values_change_as_a_whole() -> None:
    assert paths({"cidrs": ["a", "b"]}, {"cidrs": ["a", "c"]}) == {"cidrs": (["a", "b"], ["a", "c"])}


def test_entries_without_names_are_compared_by_position() -> None:
    before, after = {"rules": [{"port": 1}]}, {"rules": [{"port": 2}, {"port": 3}]}
    assert paths(before, after) == {"rules[0].port": (1, 2), "rules[1]": (ABSENT, {"port": 3})}


def test_json_text_is_compared_as_what_it_says() -> None:
    policies = [
        json.dumps({"Statement": [{"Sid": "A", "Action": action}]}) for action in ("s3:GetObject", "s3:*")
    ]
    assert paths({"policy": policies[0]}, {"policy": policies[1]}) == {
        "policy.Statement[A].Action": ("s3:GetObject", "s3:*")
    }


def test_a_serve_config_is_compared_as_yaml() -> None:
    before = {"serveConfigV2": "applications:\n- name: chat\n  args: {slots: 8}\n"}
    after = {"serveConfigV2": "applications:\n- {name: chat, args: {slots: 9}}\n"}
    assert paths(before, after) == {"serveConfigV2.applications[chat].args.slots": (8, 9)}


def test_other_text_in_yaml_is_text() -> None:
    assert paths({"data": "a: 1"}, {"data": "a: 2"}) == {"data": ("a: 1", "a: 2")}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"$secret": {"password": None}}, '"(secret)"'),
        ({"a": [{"$secret": None}]}, '{"a": ["(secret)"]}'),
        ({"$unknown": True}, '"(known after deployment)"'),
        ({"$resource": "urn:pulumi:dev::p::t::thing"}, '"thing"'),
        (ABSENT, "(none)"),
    ],
)
def test_values_are_shown_without_secrets(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_secret_that_changes_its_shape_is_a_change_without_content() -> None:
    (change,) = changes({"data": {"$secret": {"a": None}}}, {"data": "plain"})
    assert change == PropertyChange("data", {"$secret": {"a": None}}, "plain")


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) == 200
