"""The table of effects against an operator: fields of a RayService are changed, and its clusters looked at.

Its pods find no node, so that it costs nothing. An operator compares a cluster that is still to come as it
compares one that serves (isClusterSpecHashEqual in ray-operator/controllers/ray/rayservice_controller.go).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests import changes
from tests.changes import written
from tests.cluster.kubernetes import Kubernetes, Object
from tests.unit.plans import CPU, plan
from tests.waiting import wait_until
from workloads.effects import Effect, effect

pytestmark = pytest.mark.cluster

NAME = "effects"
PATIENCE_S, POLL_S = 120, 1
# An operator looks at a change at once, and every two seconds (ServiceDefaultRequeueDuration).
UNCHANGED_S = 10
HEAD, GROUP = ("rayClusterConfig", "headGroupSpec"), ("rayClusterConfig", "workerGroupSpecs", 0)
POD = ("template", "spec")
SECOND: dict[changes.Path, Any] = {
    ("rayClusterConfig", "rayVersion"): "2.59.0",
    ("rayClusterConfig", "authOptions", "secretName"): "other",
    ("rayClusterConfig", "autoscalerOptions", "idleTimeoutSeconds"): 60,
    ("rayClusterConfig", "enableInTreeAutoscaling"): False,
    ("rayClusterConfig", "headServiceAnnotations"): {"a": "b"},
    (*HEAD, "rayStartParams", "metrics-export-port"): "8081",
    (*HEAD, "serviceType"): "ClusterIP",
    (*HEAD, "template", "metadata", "labels", "a"): "b",
    (*HEAD, *POD, "containers", 0, "image"): "i:2",
    (*HEAD, *POD, "terminationGracePeriodSeconds"): 7,
    (*GROUP, "groupName"): "others",
    # Of CPUs and resources an operator wants to be told in one place only.
    (*GROUP, "rayStartParams", "metrics-export-port"): "8081",
    (*GROUP, "resources"): {"neuron_cores": "2"},
    (*GROUP, "numOfHosts"): 2,
    (*GROUP, *POD, "containers", 0, "resources", "requests", "cpu"): "7m",
    (*GROUP, *POD, "topologySpreadConstraints", 0, "maxSkew"): 2,
}
NOTHING: dict[changes.Path, Any] = {
    ("serveService",): {"metadata": {"labels": {"a": "b"}}},
    ("serviceUnhealthySecondThreshold",): 7,
    ("deploymentUnhealthySecondThreshold",): 7,
    (*GROUP, "replicas"): 3,
    (*GROUP, "minReplicas"): 2,
    (*GROUP, "maxReplicas"): 7,
    (*GROUP, "scaleStrategy"): {"workersToDelete": ["a"]},
    (*GROUP, *POD, "tolerations"): [{"key": "a", "operator": "Exists"}],
    (*GROUP, *POD, "schedulingGates"): [{"name": "a.b/c"}],
    (*HEAD, *POD, "tolerations"): [{"key": "a", "operator": "Exists"}],
    (*HEAD, *POD, "schedulingGates"): [{"name": "a.b/c"}],
}
OPERATOR: dict[changes.Path, Any] = {
    ("excludeHeadPodFromServeSvc",): False,
    ("rayClusterDeletionDelaySeconds",): 1,
    ("upgradeStrategy",): {"type": "NewCluster"},
}


def kubectl(*arguments: str, given: Any = None) -> str:
    text = None if given is None else json.dumps(given)
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def spec() -> dict[str, Any]:
    planned = plan(CPU).spec | {"rayClusterDeletionDelaySeconds": 0}
    for group in (HEAD, GROUP):
        planned = changes.put(planned, (*group, *POD, "nodeSelector"), {"effects": "nowhere"})
    return planned


def pointer(path: changes.Path) -> str:
    """A place as a JSON patch writes it."""
    return "/spec/" + "/".join(str(key).replace("~", "~0").replace("/", "~1") for key in path)


class LiveService:
    """A RayService whose clusters never start."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    def patch(self, values: dict[changes.Path, Any]) -> None:
        """Put values at places of its spec, all at once."""
        operations = [{"op": "add", "path": pointer(path), "value": value} for path, value in values.items()]
        patch = ("--type", "json", "--patch", json.dumps(operations))
        kubectl("patch", "rayservice", NAME, "--namespace", NAME, *patch)

    def cluster(self) -> Object:
        """The RayCluster that the operator prepares, once it is there."""
        wait_until(lambda: self._prepared() in self._clusters(), "a RayCluster", PATIENCE_S, POLL_S)
        return self._clusters()[self._prepared()]

    def another_than(self, cluster: Object) -> Object:
        """The one that comes in its place."""
        name = cluster["metadata"]["name"]
        wait_until(lambda: self._prepared() != name, f"another RayCluster than {name}", PATIENCE_S, POLL_S)
        return self.cluster()

    def _prepared(self) -> str:
        service = self._kubernetes.get("RayService", NAME, NAME)
        assert service
        return service.get("status", {}).get("pendingServiceStatus", {}).get("rayClusterName", "")

    def _clusters(self) -> dict[str, Object]:
        return {found["metadata"]["name"]: found for found in self._kubernetes.all("RayCluster", NAME)}


@pytest.fixture(scope="module", autouse=True)
def bystander() -> None:
    """None: nothing of this can be noticed by a service that runs."""


@pytest.fixture(scope="module")
def live(kubernetes: Kubernetes) -> Iterator[LiveService]:
    metadata = {"name": NAME, "namespace": NAME}
    kubectl("apply", "--filename", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    service = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": metadata, "spec": spec()}
    try:
        kubectl("apply", "--filename", "-", given=service)
        yield LiveService(kubernetes)
    finally:
        kubectl("delete", "rayservice", NAME, "--namespace", NAME, "--ignore-not-found")
        kubectl("delete", "namespace", NAME)


def serve_config() -> str:
    config = yaml.safe_load(spec()["serveConfigV2"])
    config["applications"][0]["args"]["slots"] = 1
    return yaml.safe_dump(config)


def test_what_reaches_no_cluster_that_runs_is_in_the_next_one(live: LiveService) -> None:
    before = live.cluster()
    live.patch({**NOTHING, **OPERATOR, ("serveConfigV2",): serve_config()})
    time.sleep(UNCHANGED_S)
    assert live.cluster()["spec"] == before["spec"]
    live.patch({("rayClusterConfig", "rayVersion"): "2.58.0"})
    made = {"rayClusterConfig": live.another_than(before)["spec"]}
    for path, value in NOTHING.items():
        if path[0] == "rayClusterConfig":
            assert changes.at(made, path) == value, written(path)


@pytest.mark.parametrize("path", SECOND, ids=written)
def test_the_shape_of_the_cluster_makes_another_one(live: LiveService, path: changes.Path) -> None:
    before = live.cluster()
    live.patch({path: SECOND[path]})
    live.another_than(before)


def test_the_table_says_the_same() -> None:
    for expected, tried in (
        (Effect.SECOND_CLUSTER, SECOND),
        (Effect.NOTHING, NOTHING),
        (Effect.OPERATOR, OPERATOR),
    ):
        assert {effect(written(path)) for path in tried} == {expected}
