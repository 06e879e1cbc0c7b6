"""What must be true outside the stack file, said before anything is registered, let alone created."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pulumi

from infra import zones
from infra.aws_config import Aws
from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.image_builds import wanted_images
from infra.kubernetes import OFFLINE

# Credentials that the AWS provider takes from the stack file. `aws eks get-token`, by which Kubernetes is
# reached, reads the environment only, so the stack would fail as soon as its cluster exists
# (https://github.com/pulumi/pulumi-eks/issues/669).
_DOCKER_SOCKET = Path("/var/run/docker.sock")
_CREDENTIAL_KEYS = ("profile", "accessKey", "secretKey", "token", "assumeRoles")


def check(stack: StackConfig) -> None:
    """Raise `ConfigError` unless region, credentials, AWS CLI and zones fit a stack on AWS.

    For a stack on a cluster that exists, raise `ClusterError` unless the cluster can be used. Offline, what a
    deployment needs is not asked for, and there is nobody to ask what a zone offers. Warns if images may have
    to be built and there is no Docker.
    """
    deploys = OFFLINE not in os.environ
    if stack.aws:
        _check_aws(stack, stack.aws, deploys=deploys)
    elif deploys:
        # Offline, the client alone would take half a second to import.
        from infra import cluster_preflight

        cluster_preflight.check(stack)


def _check_aws(stack: StackConfig, config: Aws, *, deploys: bool) -> None:
    findings = [*_region_findings(config), *_credential_findings()]
    if deploys and shutil.which("aws") is None:
        findings.append(
            "the AWS CLI is not on PATH, and `aws eks get-token` is how Kubernetes is reached; install it: "
            "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
        )
    if findings:
        raise ConfigError(*findings)
    if deploys:
        _warn_without_docker(wanted_images(stack))
        zones.check(config)


def _warn_without_docker(images: Sequence[str]) -> None:
    # An image that is in the repository already asks for none, so its absence alone is no error.
    if not images or "DOCKER_HOST" in os.environ or _DOCKER_SOCKET.exists():
        return
    pulumi.log.warn(
        f"there is no Docker here (neither DOCKER_HOST nor {_DOCKER_SOCKET}), and `pulumi up` builds the "
        f"images {', '.join(images)} with it when they change; start Docker, or name images of your own "
        "(services.NAME.image, chatUi.image)"
    )


def _region_findings(config: Aws) -> Iterator[str]:
    region = pulumi.Config("aws").get("region")
    if region is None:
        yield f"aws:region: missing; set it with `pulumi config set aws:region {config.region}`"
    elif region != config.region:
        yield (f"aws:region: {region!r} does not hold aws.zones {config.zones}; change one of them")


def _credential_findings() -> Iterator[str]:
    given = pulumi.Config("aws")
    for key in _CREDENTIAL_KEYS:
        if given.get(key) is not None:
            yield (
                f"aws:{key}: credentials in the stack file do not reach `aws eks get-token`; remove it and "
                "set AWS_PROFILE, or whatever else the AWS CLI reads, in the environment"
            )
