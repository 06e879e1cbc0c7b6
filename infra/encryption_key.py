"""KMS keys of the stack: rotated, and deleted some days after what they encrypted."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

# Days in which a deleted key can be brought back, the least that KMS allows: what it encrypted is gone.
_DELETION_WINDOW_DAYS = 7


def encryption_key(
    name: str,
    *,
    description: str,
    tags: Mapping[str, str],
    opts: pulumi.ResourceOptions,
    policy: pulumi.Input[str] | None = None,
) -> aws.kms.Key:
    """A symmetric key; without `policy` the account's IAM policies say who may use it."""
    return aws.kms.Key(
        name,
        description=description,
        enable_key_rotation=True,
        deletion_window_in_days=_DELETION_WINDOW_DAYS,
        policy=policy,
        tags=tags,
        opts=opts,
    )
