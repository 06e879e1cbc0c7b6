"""Where Ray's head keeps its state: what the stack file may say, and what a plan makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.bucket_layout import BucketLayout
from infra.code_archive import CodeArchive
from infra.config import StackConfig
from infra.gcs_store import engine_version, parameter_group_family
from infra.gcs_store_config import GcsStore
from infra.service_config import BringYourOwnService, LlmService
from tests.unit.plans import CPU, NEURON, OWN, SECRETS
from tests.unit.test_config import findings, load, stack
from workloads.ray_cluster import StoreAccess
from workloads.service_plan import ServicePlan, plan_service

TLS_STORE = StoreAccess("gcs-store", tls=True)
PLAIN_STORE = StoreAccess("gcs-store", tls=False)
CODE = CodeArchive("llm", "0123456789abcdef", Path("llm-0123456789abcdef.zip"))
BUCKET = BucketLayout("my-bucket", {"llm": CODE})


def plan(base: dict[str, Any], **found: Any) -> ServicePlan:
    kind = LlmService if base["app"] == "llm" else BringYourOwnService
    return plan_service("chat", kind.model_validate(base), SECRETS, **found)


def cluster(base: dict[str, Any], **found: Any) -> dict[str, Any]:
    return plan(base, **found).spec["rayClusterConfig"]


def variables(template: dict[str, Any]) -> dict[str, str | None]:
    return {item["name"]: item.get("value") for item in template["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ({"kind": "redis"}, "gcsStore.kind: 'redis' is not allowed; write one of 'elasticache'"),
        (
            {"kind": "elasticache"},
            "gcsStore.kind: 'elasticache' needs target 'aws'; choose 'inCluster' or 'none'",
        ),
        ({"kind": "none", "nodes": 2}, "gcsStore: nodes has no effect with kind 'none'; remove it"),
        (
            {"kind": "inCluster", "nodeType": "cache.t4g.small"},
            "nodeType has no effect with kind 'inCluster'",
        ),
        ({"kind": "elasticache", "image": "i:1"}, "image has no effect with kind 'elasticache'"),
        (
            {"kind": "elasticache", "nodes": 1},
            "gcsStore.nodes: 1 is too small; write a whole number from 2 to 6",
        ),
        (
            {"kind": "elasticache", "nodeType": "t4g.small"},
            "gcsStore.nodeType: 't4g.small' does not have the right form",
        ),
        (
            {"kind": "elasticache", "engineVersion": "6.2"},
            "engineVersion '6.2' of redis is not known here; choose one of 7.1, 7.0",
        ),
        (
            {"kind": "elasticache", "engine": "valkey", "engineVersion": "7.1"},
            "engineVersion '7.1' of valkey is not known here; choose one of 7.2, 8.0, 8.1, 8.2",
        ),
    ],
)
def test_a_wrong_store_is_refused_with_a_reason(store: dict[str, Any], expected: str) -> None:
    assert expected in findings(stack() | {"gcsStore": store})


def test_a_store_in_plain_text_is_refused() -> None:
    message = findings(stack() | {"gcsStore": {"kind": "inCluster"}, "gcsStoreAuthToken": "visible"})
    assert "gcsStoreAuthToken: stands in plain text in the stack file" in message
    assert "'visible'" not in message


@pytest.mark.parametrize(
    "token", ["x" * 15, "x" * 129, "with a space in it", 'quoted-with-"-in-it', "at-sign-is-@-refused"]
)
def test_a_password_that_elasticache_would_refuse_is_refused(token: str) -> None:
    message = findings(stack() | {"gcsStore": {"kind": "inCluster"}}, {"gcsStoreAuthToken": token})
    assert f"gcsStoreAuthToken: its {len(token)} characters are not what ElastiCache accepts" in message
    assert "`openssl rand -hex 32`" in message
    assert token not in message


def test_a_good_password_is_a_secret_of_the_stack() -> None:
    _, secrets = load(
        stack() | {"gcsStore": {"kind": "inCluster"}}, {"gcsStoreAuthToken": "Az09!&#$^<>-" * 2}
    )
    assert secrets.gcs_store_auth_token is not None


def test_a_password_without_a_store_is_refused() -> None:
    message = findings(stack(), {"gcsStoreAuthToken": "x" * 64})
    assert "gcsStoreAuthToken: has no effect without a gcsStore" in message


def test_a_target_has_the_store_that_suits_it() -> None:
    loaded, _ = load(stack())
    assert loaded.store.kind == "none"
    on_aws = StackConfig.model_validate(
        stack()
        | {
            "target": "aws",
            "aws": {
                "zones": ["us-west-2a", "us-west-2b"],
                "cluster": {"version": "1.34"},
                "nodePools": [{"name": "inf2", "instanceTypes": ["inf2.xlarge"], "maxNeuronDevices": 1}],
            },
        }
    )
    assert on_aws.store.kind == "elasticache"
    assert on_aws.store.nodes == 2


@pytest.mark.parametrize(
    ("store", "version", "family"),
    [
        ({"engine": "redis"}, "7.1", "redis7"),
        ({"engine": "redis", "engineVersion": "7.0"}, "7.0", "redis7"),
        ({"engine": "valkey"}, "7.2", "valkey7"),
        ({"engine": "valkey", "engineVersion": "8.2"}, "8.2", "valkey8"),
    ],
)
def test_the_parameter_family_follows_from_engine_and_version(
    store: dict[str, str], version: str, family: str
) -> None:
    config = GcsStore.model_validate({"kind": "elasticache", **store})
    assert engine_version(config) == version
    assert parameter_group_family(config.engine, version) == family


@pytest.mark.parametrize("base", [CPU, NEURON, OWN], ids=["cpu", "neuron", "bring-your-own"])
def test_without_a_store_and_a_bucket_nothing_of_them_is_in_the_cluster(base: dict[str, Any]) -> None:
    text = str(cluster(base))
    for word in ("gcsFaultTolerance", "serviceAccountName", "REDIS", "s3://"):
        assert word not in text


def test_only_the_head_of_a_tls_store_gets_certificate_authorities() -> None:
    made = cluster(NEURON, store=TLS_STORE)
    head = made["headGroupSpec"]["template"]
    (group,) = made["workerGroupSpecs"]
    assert variables(head)["RAY_REDIS_CA_CERT"] == "/etc/ssl/certs/ca-certificates.crt"
    assert "RAY_REDIS_CA_CERT" not in variables(group["template"])
    # Ray reads the file whether it uses TLS or not, and dies of a missing one.
    assert "RAY_REDIS_CA_CERT" not in variables(
        cluster(NEURON, store=PLAIN_STORE)["headGroupSpec"]["template"]
    )


def test_the_storage_namespace_is_left_to_kuberay() -> None:
    # One for both clusters of a roll-out would let the new one overwrite the state of the old one.
    assert set(cluster(CPU, store=TLS_STORE)["gcsFaultToleranceOptions"]) == {"redisPassword"}


def test_a_store_makes_a_release_and_so_does_code() -> None:
    other = BucketLayout("my-bucket", {"llm": CodeArchive("llm", "f" * 16, Path("llm-f.zip"))})
    releases = {
        plan(CPU).release,
        plan(CPU, store=PLAIN_STORE).release,
        plan(CPU, store=TLS_STORE).release,
        plan(CPU, bucket=BUCKET).release,
        plan(CPU, bucket=other).release,
    }
    assert len(releases) == 5


def test_other_code_is_no_other_cluster() -> None:
    other = BucketLayout("my-bucket", {"llm": CodeArchive("llm", "f" * 16, Path("llm-f.zip"))})
    assert cluster(NEURON, bucket=BUCKET) == cluster(NEURON, bucket=other)


def test_code_comes_from_the_bucket_unless_the_service_names_it() -> None:
    url = "s3://my-bucket/code/llm-0123456789abcdef.zip"
    assert plan(CPU, bucket=BUCKET).application["runtime_env"] == {"working_dir": url}
    named = CPU | {"codeUrl": "s3://theirs/code.zip"}
    assert plan(named, bucket=BUCKET).application["runtime_env"] == {"working_dir": "s3://theirs/code.zip"}
    assert plan(OWN, bucket=BUCKET).application["runtime_env"] == {}


def test_the_head_keeps_its_right_to_the_kubernetes_api_for_the_autoscaler() -> None:
    made = cluster(NEURON, bucket=BUCKET)
    assert made["enableInTreeAutoscaling"] is True
    head = made["headGroupSpec"]["template"]["spec"]
    assert head["serviceAccountName"] == "ray"
    assert "automountServiceAccountToken" not in head
