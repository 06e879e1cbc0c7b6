"""All rules, their enforcement and exemptions, and `check`, which holds a stack against them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from policy import data_rules, iam_rules, network_rules, workload_rules
from policy.model import Resource, Rule, Violation, is_exempt

RULES: list[Rule] = [*network_rules.RULES, *data_rules.RULES, *iam_rules.RULES, *workload_rules.RULES]
CONFIG_FILE = Path(__file__).with_name("policy-config.json")

MANDATORY = "mandatory"
DISABLED = "disabled"


@dataclass(frozen=True)
class Enforcement:
    """How one rule is applied: `mandatory`, `advisory` or `disabled`, and who is exempt.

    `exempt` gives the reason for each pattern of the form `STACK/NAME`, `exempt_environments` for each value
    of `aws.environment`.
    """

    level: str = MANDATORY
    exempt: Mapping[str, str] = field(default_factory=dict[str, str])
    exempt_environments: Mapping[str, str] = field(default_factory=dict[str, str])


Config = Mapping[str, Enforcement]


def read_config(path: Path = CONFIG_FILE) -> dict[str, Enforcement]:
    """The policy configuration, as `pulumi preview --policy-pack-config` takes it, by rule.

    Raises ValueError that names the rule and the key for what is not a configuration of these rules.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    names = {rule.name for rule in RULES}
    config: dict[str, Enforcement] = {}
    for name, entry in cast("dict[str, Any]", data).items():
        if name not in names:
            raise ValueError(f"{path.name}: there is no rule {name!r}; there are {', '.join(sorted(names))}")
        config[name] = _enforcement(path.name, name, entry)
    return config


def _enforcement(file: str, rule: str, entry: Any) -> Enforcement:
    if isinstance(entry, str):
        entry = {"enforcementLevel": entry}
    if not isinstance(entry, dict):
        raise ValueError(f"{file}: {rule} is {entry!r}; write an enforcement level or an object")
    settings = cast("dict[str, Any]", entry)
    level = settings.get("enforcementLevel", MANDATORY)
    if level not in (MANDATORY, "advisory", DISABLED):
        raise ValueError(
            f"{file}: {rule}.enforcementLevel is {level!r}; choose mandatory, advisory or disabled"
        )
    return Enforcement(
        level,
        _reasons(file, rule, settings, "exempt", "STACK/NAME"),
        _reasons(file, rule, settings, "exemptEnvironments", "environment"),
    )


def _reasons(file: str, rule: str, settings: Mapping[str, Any], key: str, what: str) -> dict[str, str]:
    reasons = settings.get(key, {})
    if not isinstance(reasons, dict) or not all(
        isinstance(reason, str) and reason for reason in cast("dict[str, Any]", reasons).values()
    ):
        raise ValueError(f"{file}: {rule}.{key} must give a reason for every {what}")
    return cast("dict[str, str]", reasons)


def check(resources: Sequence[Resource], config: Config) -> list[Violation]:
    """Everything that breaks a rule that is not disabled, apart from exempt resources."""
    return [
        violation
        for rule in RULES
        if (enforcement := config.get(rule.name, Enforcement())).level != DISABLED
        for violation in rule.violations(resources)
        if not is_exempt(violation, enforcement.exempt, enforcement.exempt_environments)
    ]
