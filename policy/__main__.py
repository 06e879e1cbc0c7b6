"""The policy pack: `pulumi preview --policy-pack policy --policy-pack-config policy/policy-config.json`.

Pulumi runs this file with its own directory on the path. The rules have one name everywhere, so the project's
directory joins it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policy.model import Resource, Rule, from_analyzer, is_exempt
from policy.rules import RULES

_CONFIG = PolicyConfigSchema(
    properties={
        "exempt": {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1},
            "description": "What is exempt, as STACK/NAME with wildcards, each with the reason.",
        },
        "exemptEnvironments": {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1},
            "description": "Values of aws.environment whose resources are exempt, each with the reason.",
        },
    }
)


def policy(rule: Rule) -> Policy:
    """The rule as Pulumi's analyzer runs it."""
    description = f"{rule.description} {rule.why}"
    if rule.check_stack:
        return StackValidationPolicy(
            name=rule.name,
            description=description,
            config_schema=_CONFIG,
            validate=lambda args, report: _validate_stack(rule, args, report),
            remediation_steps=rule.way_out,
        )
    return ResourceValidationPolicy(
        name=rule.name,
        description=description,
        config_schema=_CONFIG,
        validate=lambda args, report: _validate(rule, args, report),
        remediation_steps=rule.way_out,
    )


def _validate(rule: Rule, args: ResourceValidationArgs, report: ReportViolation) -> None:
    _report(rule, [from_analyzer(args)], args.get_config(), report)


def _validate_stack(rule: Rule, args: StackValidationArgs, report: ReportViolation) -> None:
    _report(rule, [from_analyzer(resource) for resource in args.resources], args.get_config(), report)


def _report(
    rule: Rule, resources: list[Resource], config: Mapping[str, Any], report: ReportViolation
) -> None:
    for violation in rule.violations(resources):
        if not is_exempt(violation, config.get("exempt") or {}, config.get("exemptEnvironments") or {}):
            report(f"{violation.message}. Way out: {rule.way_out}", violation.urn)


# A rule that needs a graph would take every secret for plain text here; `python -m offline diff` applies it.
POLICIES: list[Policy] = [policy(rule) for rule in RULES if not rule.graph_only]

if __name__ == "__main__":
    PolicyPack(name="neuron-serve", policies=POLICIES, enforcement_level=EnforcementLevel.MANDATORY)
