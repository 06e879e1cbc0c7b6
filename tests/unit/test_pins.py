"""A version is the stack file's, or looked up and shown to the user."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import pins
from infra.cluster_config import Cluster
from infra.pins import AddOn

SSM_PARAMETER = (
    "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/release_version"
)
# Key of the stack file, by add-on.
KEYS: dict[AddOn, str] = {
    "vpc-cni": "vpcCni",
    "kube-proxy": "kubeProxy",
    "eks-pod-identity-agent": "podIdentityAgent",
    "coredns": "coredns",
    "aws-ebs-csi-driver": "ebsCsi",
    "metrics-server": "metricsServer",
}


class Aws(pulumi.runtime.Mocks):
    """Answers what AWS would, and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name} was registered by a look-up")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        self.asked.append(args.args)
        if args.token == "aws:eks/getAddonVersion:getAddonVersion":
            return {"version": "v9.9.9-eksbuild.9"}
        assert args.token == "aws:ssm/getParameter:getParameter"
        return {"insecureValue": "1.35.6-20260714"}


@pytest.fixture
def aws() -> Aws:
    mocks = Aws()
    pulumi.runtime.set_mocks(mocks, project="neuron-serve", stack="dev")
    return mocks


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lines.append)
    return lines


def cluster(**keys: Any) -> Cluster:
    return Cluster.model_validate({"version": "1.35", **keys})


async def value(pin: pulumi.Input[str]) -> Any:
    return await pulumi.Output.from_input(pin).future()


@pytest.mark.parametrize("add_on", KEYS)
async def test_a_pinned_build_is_not_looked_up(aws: Aws, printed: list[str], add_on: AddOn) -> None:
    config = cluster(addOns={KEYS[add_on]: "v1.2.3-eksbuild.4"})
    assert pins.addon_version(add_on, config) == "v1.2.3-eksbuild.4"
    assert (aws.asked, printed) == ([], [])


@pytest.mark.parametrize("add_on", KEYS)
async def test_an_empty_build_is_looked_up_for_the_clusters_version_and_printed(
    aws: Aws, printed: list[str], add_on: AddOn
) -> None:
    assert await value(pins.addon_version(add_on, cluster())) == "v9.9.9-eksbuild.9"
    assert aws.asked == [{"addonName": add_on, "kubernetesVersion": "1.35"}]
    (line,) = printed
    assert f"aws.cluster.addOns.{KEYS[add_on]}: empty" in line
    assert "'v9.9.9-eksbuild.9'" in line


async def test_a_pinned_node_image_is_not_looked_up(aws: Aws, printed: list[str]) -> None:
    config = cluster(systemNodes={"releaseVersion": "1.35.1-20260101"})
    assert pins.node_release_version(config) == "1.35.1-20260101"
    assert pins.ami_date("20260101", "1.35") == "20260101"
    assert (aws.asked, printed) == ([], [])


async def test_an_empty_node_image_is_looked_up_and_printed(aws: Aws, printed: list[str]) -> None:
    assert await value(pins.node_release_version(cluster())) == "1.35.6-20260714"
    assert await value(pins.ami_date(None, "1.35")) == "20260714"
    assert [question["name"] for question in aws.asked] == [SSM_PARAMETER, SSM_PARAMETER]
    release, date = printed
    assert "aws.cluster.systemNodes.releaseVersion: empty, and AWS offers '1.35.6-20260714'" in release
    assert "aws.karpenter.amiDate: empty, and AWS offers '20260714'" in date
