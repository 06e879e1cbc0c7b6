"""Turns pydantic's findings into sentences that name the key, the value, the limit and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pulumi
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infra.config_keys import KeyTree, Location
from infra.config_phrases import concealed, misfit, nearest, shown
from infra.secrets_config import SECRET_KEYS, setting_of

# Keys of the AWS provider that are looked for among this project's.
_PROVIDER_KEYS = {"region": "aws:region", "profile": "aws:profile"}


class ConfigError(pulumi.RunError):
    """The configuration cannot be built; the message is all that a user needs to see.

    `findings` are sentences, one for each thing that is wrong. `pulumi.RunError` makes the engine print the
    message without a traceback; the offline tools print it and exit with code 2.
    """

    def __init__(self, *findings: str) -> None:
        self.findings = findings
        lines = "".join(f"\n  - {finding}" for finding in self.findings)
        super().__init__(f"invalid configuration, nothing was changed:{lines}")


def explain(error: ValidationError, model: type[BaseModel], secret: Mapping[str, Any]) -> list[str]:
    """One sentence for each finding of pydantic in `model`; no text of the `secret` keys' values is shown."""
    keys = KeyTree(model)
    return [_explained(details, keys, secret) for details in error.errors()]


def _explained(details: ErrorDetails, keys: KeyTree, secret: Mapping[str, Any]) -> str:
    location, value = _subject(details)
    key, context = keys.at(location), details.get("ctx", {})
    if details["type"] == "extra_forbidden":
        return f"{key.path}: {_unknown(location, keys)}"
    if details["type"] in ("value_error", "assertion_error"):
        reason = _without(_texts(secret), str(context["error"]))
        # A rule of the whole stack begins with a path itself.
        return f"{key.path}: {reason}" if key.path else reason
    hidden = location[:1] in [(name,) for name in secret]
    return f"{key.path}: {misfit(details['type'], concealed(value) if hidden else value, context, key)}"


def _subject(details: ErrorDetails) -> tuple[Location, Any]:
    """The key that a finding is about, and its value.

    pydantic finds the key that chooses the variant of a union wrong at the mapping that holds it.
    """
    location, value = details["loc"], details["input"]
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        discriminator = details.get("ctx", {})["discriminator"].strip("'")
        return (*location, discriminator), value.get(discriminator)
    return location, value


def _unknown(location: Location, keys: KeyTree) -> str:
    """What is said of a key that nothing knows: what was meant, or where it belongs."""
    inside, name = location[:-1], str(location[-1])
    if name in SECRET_KEYS:
        return f"unknown key here; it is a secret of the stack, {setting_of(name)}"
    if name in _PROVIDER_KEYS:
        return f"unknown key here; it is {_PROVIDER_KEYS[name]}, beside the keys of this project"
    if apps := keys.variants(name, inside):
        return f"unknown key here; only app {' or '.join(map(shown, apps))} has it"
    if homes := keys.homes(name, inside):
        return f"unknown key here; it belongs to {' or '.join(home or 'the top level' for home in homes)}"
    return f"unknown key; {nearest(name, [*keys.names(inside), *(SECRET_KEYS if not inside else ())])}"


def _without(texts: list[str], sentence: str) -> str:
    """A sentence in which none of these texts is quoted."""
    for text in texts:
        sentence = sentence.replace(repr(text), shown(concealed(text)))
    return sentence


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for entry in cast("dict[str, Any]", value).values() for text in _texts(entry)]
        case list():
            return [text for entry in cast("list[Any]", value) for text in _texts(entry)]
        case _:
            return []
