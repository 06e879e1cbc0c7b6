"""What must be true outside the stack file, said before anything is registered, let alone created."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pulumi

from infra import zones
from infra.aws_config import Aws
from infra.config_errors import ConfigError

# Offline evaluation sets this: it reaches no cloud and no cluster, so what a deployment needs for them is not
# asked for, and there is nobody to ask what a zone offers.
_OFFLINE = "NEURON_SERVE_OFFLINE"
# Credentials that the AWS provider takes from the stack file. `aws eks get-token`, by which Kubernetes is
# reached, reads the environment only, so the stack would fail as soon as its cluster exists
# (https://github.com/pulumi/pulumi-eks/issues/669).
_CREDENTIAL_KEYS = ("profile", "accessKey", "secretKey", "token", "assumeRoles")


def check(config: Aws) -> None:
    """Raise `ConfigError` unless region, credentials, AWS CLI and zones fit the stack."""
    deploys = _OFFLINE not in os.environ
    findings = [*_region_findings(config), *_credential_findings()]
    if deploys and shutil.which("aws") is None:
        findings.append(
            "the AWS CLI is not on PATH, and `aws eks get-token` is how Kubernetes is reached; install it: "
            "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
        )
    if findings:
        raise ConfigError(*findings)
    if deploys:
        zones.check(config)


def _region_findings(config: Aws) -> Iterator[str]:
    region = pulumi.Config("aws").get("region")
    if region is None:
        yield f"aws:region: missing; set it with `pulumi config set aws:region {config.region}`"
    elif region != config.region:
        yield (
            f"aws:region: {region!r} does not hold {pulumi.get_project()}:aws.zones {config.zones}; "
            "change one of them"
        )


def _credential_findings() -> Iterator[str]:
    given = pulumi.Config("aws")
    for key in _CREDENTIAL_KEYS:
        if given.get(key) is not None:
            yield (
                f"aws:{key}: credentials in the stack file do not reach `aws eks get-token`; remove it and "
                "set AWS_PROFILE, or whatever else the AWS CLI reads, in the environment"
            )
