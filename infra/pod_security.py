"""What every container of this project is held to: the `restricted` Pod Security Standard.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted (looked up 2026-11).
"""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as k8s
from pydantic.alias_generators import to_camel


def restricted_container(*, read_only_root: bool) -> k8s.core.v1.SecurityContextArgsDict:
    """Security context of a container; `read_only_root` where its program writes to volumes only."""
    context: k8s.core.v1.SecurityContextArgsDict = {
        "allow_privilege_escalation": False,
        "capabilities": {"drop": ["ALL"]},
        "run_as_non_root": True,
        "seccomp_profile": {"type": "RuntimeDefault"},
    }
    if read_only_root:
        context["read_only_root_filesystem"] = True
    return context


def restricted_container_manifest(*, read_only_root: bool) -> dict[str, Any]:
    """The same as it stands in a manifest, for pods inside custom resources."""
    context = restricted_container(read_only_root=read_only_root)
    return {to_camel(key): value for key, value in context.items()}
