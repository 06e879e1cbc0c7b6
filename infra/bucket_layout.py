"""Where things lie in the stack's bucket: plain values, known before anything is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_aws as aws

from infra import code_archive
from infra.code_archive import CodeArchive
from infra.config import StackConfig
from infra.service_base import ModelService

COMPILE_CACHE_PREFIX = "neuron-compile-cache"
# The Kubernetes service account of Ray's pods, which the bucket's role is for.
RAY_SERVICE_ACCOUNT = "ray"


@dataclass(frozen=True)
class BucketLayout:
    """The bucket and the code in it, by app."""

    bucket_name: str
    code: Mapping[str, CodeArchive]

    def code_url(self, app: str) -> str | None:
        """What Ray downloads as the app's working directory; None for apps that bring their own code."""
        archive = self.code.get(app)
        return f"s3://{self.bucket_name}/{archive.key}" if archive else None

    @property
    def compile_cache_url(self) -> str:
        """Where Neuron's compiler keeps what it compiled, for the next replica."""
        return f"s3://{self.bucket_name}/{COMPILE_CACHE_PREFIX}"


def bucket_layout(stack: StackConfig) -> BucketLayout | None:
    """The bucket of a stack on AWS and the code that its services need in it. Asks AWS for the account.

    The name is made here instead of by the provider: the code's URL is part of a release's identity, and of
    what a preview shows.
    """
    if stack.aws is None:
        return None
    account_id = aws.get_caller_identity().account_id
    apps = {
        service.app: service.package
        for service in stack.services.values()
        if isinstance(service, ModelService) and not service.code_url
    }
    return BucketLayout(
        # Account and region, because the names of all buckets of all accounts are one namespace; at most 63
        # characters with the longest name that the stack file may give.
        bucket_name=f"{stack.aws.name}-{account_id}-{stack.aws.region}",
        code={app: code_archive.build(apps[app]) for app in sorted(apps)},
    )
