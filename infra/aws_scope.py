"""Where a stack's AWS resources are: what ARNs and tag conditions of its policies are made of."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True)
class AwsScope:
    """One cluster in one region of one account."""

    partition: str
    region: str
    account_id: str
    cluster_name: str

    def arn(self, service: str, resource: str, *, account_id: str | None = None) -> str:
        """ARN of a regional resource, of this account unless another, or none (`""`), is named."""
        account = self.account_id if account_id is None else account_id
        return f"arn:{self.partition}:{service}:{self.region}:{account}:{resource}"

    def iam_arn(self, resource: str) -> str:
        """ARN of a resource of IAM, which is in no region."""
        return f"arn:{self.partition}:iam::{self.account_id}:{resource}"

    def managed_policy_arn(self, name: str) -> str:
        """ARN of a policy that AWS maintains, for example `service-role/AmazonEBSCSIDriverPolicy`."""
        return f"arn:{self.partition}:iam::aws:policy/{name}"

    @property
    def owned_tag(self) -> str:
        """Key of the tag, of value `owned`, that controllers put on what they make for the cluster."""
        return f"kubernetes.io/cluster/{self.cluster_name}"


def current_scope(cluster_name: str, parent: pulumi.Resource) -> AwsScope:
    """The scope of the AWS provider that `parent` has."""
    options = pulumi.InvokeOptions(parent=parent)
    return AwsScope(
        partition=aws.get_partition(opts=options).partition,
        region=aws.get_region(opts=options).region,
        account_id=aws.get_caller_identity(opts=options).account_id,
        cluster_name=cluster_name,
    )
