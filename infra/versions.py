"""Every version that this project pins, with its source and the day it was looked up.

A version without a source does not stand here: it is a config key of the stack.
"""

from __future__ import annotations

# https://github.com/ray-project/ray/releases/tag/ray-2.60.0 (2026-11); also pinned in requirements.txt and
# in images/*.Dockerfile, which a test compares with this line.
RAY = "2.60.0"

# https://github.com/ray-project/kuberay/releases/tag/v1.7.0 (published 2026-08-19, looked up 2026-11)
KUBERAY = "1.7.0"
KUBERAY_CHART_REPOSITORY = "https://ray-project.github.io/kuberay-helm/"

# Versions of ElastiCache's engines that this stack takes, the default first
# (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/engine-versions.html, looked up 2026-11). Ray is
# tested with Redis, and of Valkey 7.2 is the closest to it: its parameters are those of Redis 7
# (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html, looked up 2026-11).
ELASTICACHE = {"redis": ("7.1", "7.0"), "valkey": ("7.2", "8.0", "8.1", "8.2")}

# https://github.com/valkey-io/valkey-container/blob/00a2b211887fd46775bba37c554167a19783cca4/versions.json
# (looked up 2026-11)
VALKEY_IMAGE = "docker.io/valkey/valkey:8.1.8-alpine"

# https://github.com/aws/karpenter-provider-aws/releases/tag/v1.14.1 (tagged 2026-08-20, looked up
# 2026-11). Both charts have Karpenter's version.
KARPENTER = "1.14.1"
KARPENTER_CHARTS = "oci://public.ecr.aws/karpenter"

# https://github.com/aws-neuron/neuron-helm-charts/releases/tag/1.10.0 (published 2026-08-19, looked up
# 2026-11)
NEURON_CHART = "1.10.0"
NEURON_CHART_URL = "oci://public.ecr.aws/neuron/neuron-helm-chart"

# https://github.com/aws-neuron/aws-neuron-sdk/blob/81ce03ae261e12925e53437a0f690478e6366155/src/k8/k8s-neuron-monitor-daemonset.yml
# (2026-08-21, looked up 2026-11)
NEURON_MONITOR_IMAGE = "public.ecr.aws/neuron/neuron-monitor:1.3.0"

# https://github.com/kubernetes-sigs/aws-load-balancer-controller/releases/tag/v3.5.0, whose chart of the same
# version is in https://github.com/aws/eks-charts since 2026-08-03 (looked up 2026-11)
LOAD_BALANCER_CONTROLLER = "3.5.0"
EKS_CHARTS = "https://aws.github.io/eks-charts"

# https://github.com/prometheus-community/helm-charts/blob/ea930baeebeba39f56d6b44e351f23b2a072a600/charts/kube-prometheus-stack/Chart.yaml
# (2026-08-21, looked up 2026-11)
KUBE_PROMETHEUS_STACK = "88.5.3"
PROMETHEUS_CHARTS = "https://prometheus-community.github.io/helm-charts"
