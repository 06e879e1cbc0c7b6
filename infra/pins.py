"""Versions that AWS publishes from day to day: the stack file's, or looked up and printed.

`aws_config` refuses an empty pin while `environment: prod`, so a look-up happens in development only.
"""

from __future__ import annotations

from typing import Literal

import pulumi
import pulumi_aws as aws

from infra.cluster_config import AddOns, Cluster

AddOn = Literal[
    "vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns", "aws-ebs-csi-driver", "metrics-server"
]

_ADD_ON_FIELDS: dict[AddOn, str] = {
    "vpc-cni": "vpc_cni",
    "kube-proxy": "kube_proxy",
    "eks-pod-identity-agent": "pod_identity_agent",
    "coredns": "coredns",
    "aws-ebs-csi-driver": "ebs_csi",
    "metrics-server": "metrics_server",
}


def addon_version(add_on: AddOn, config: Cluster) -> pulumi.Input[str]:
    """The build of an add-on: the pin, or what EKS installs by default for the cluster's version."""
    field = _ADD_ON_FIELDS[add_on]
    pinned: str | None = getattr(config.add_ons, field)
    if pinned is not None:
        return pinned
    found = aws.eks.get_addon_version_output(addon_name=add_on, kubernetes_version=config.version)
    return _printed(f"cluster.addOns.{AddOns.model_fields[field].alias}", found.version)


def node_release_version(config: Cluster) -> pulumi.Input[str]:
    """The release of the AL2023 node image: the pin, or the latest one of the cluster's version."""
    if config.system_nodes.release_version is not None:
        return config.system_nodes.release_version
    return _printed("cluster.systemNodes.releaseVersion", _latest_release(config.version))


def ami_date(pinned: str | None, kubernetes_version: str) -> pulumi.Input[str]:
    """The date (YYYYMMDD) of the AL2023 images that Karpenter starts: the pin, or the latest one.

    A release has one date for all its variants, the Neuron one among them.
    """
    if pinned is not None:
        return pinned
    latest = _latest_release(kubernetes_version).apply(lambda release: release.rpartition("-")[2])
    return _printed("karpenter.amiDate", latest)


def _latest_release(kubernetes_version: str) -> pulumi.Output[str]:
    # https://docs.aws.amazon.com/eks/latest/userguide/retrieve-ami-id.html
    image = f"/aws/service/eks/optimized-ami/{kubernetes_version}/amazon-linux-2023/x86_64/standard"
    # `value` is the same text as a secret.
    return aws.ssm.get_parameter_output(name=f"{image}/recommended/release_version").insecure_value


def _printed(key: str, found: pulumi.Output[str]) -> pulumi.Output[str]:
    def show(version: str) -> str:
        pulumi.log.info(f"aws.{key}: empty, and AWS offers {version!r}; write it down to keep it")
        return version

    return found.apply(show)
