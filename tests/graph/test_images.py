"""The image repository, what is built into it, and what a preview knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offline.errors import OfflineError
from offline.graph import Graph, Resource, is_secret
from offline.recorder import evaluate
from tests.graph.conftest import Evaluated
from tests.graph.stacks import copy_of_the_checkout, stack_file

REPOSITORY = "aws:ecr/repository:Repository"
IMAGE = "docker-build:index:Image"
RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
JOB = "kubernetes:batch/v1:Job"
OWN_REPOSITORY = "123456789012.dkr.ecr.us-west-2.amazonaws.com/neuron-serve-dev"


def pod_images(ray_service: Resource) -> set[str]:
    cluster = ray_service.inputs["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}


def with_image(image: str) -> dict[str, Any]:
    services = stack_file("dev")["neuron-serve:services"]
    return {name: service | {"image": image} for name, service in services.items()}


def test_a_preview_knows_the_image_before_it_is_built(evaluated: Evaluated) -> None:
    for graph in (evaluated("dev"), evaluated("dev", unknowns=True)):
        (tag,) = graph.one(IMAGE, "images-neuron").inputs["tags"]
        assert tag.startswith(f"{OWN_REPOSITORY}:neuron-")
        assert pod_images(graph.one(RAY_SERVICE)) == {tag}
        (container,) = graph.one(JOB).inputs["spec"]["template"]["spec"]["containers"]
        assert container["image"] == tag


def test_it_is_pushed_with_the_repositorys_own_login_and_never_built_by_a_preview(
    evaluated: Evaluated,
) -> None:
    graph = evaluated("dev")
    image, repository = graph.one(IMAGE, "images-neuron"), graph.one(REPOSITORY)
    assert image.inputs["push"] is True
    assert image.inputs["buildOnPreview"] is False
    assert image.inputs["platforms"] == ["linux/amd64"]
    (login,) = image.inputs["registries"]
    assert is_secret(login["password"])
    assert repository.urn in image.dependencies
    assert Path(image.inputs["context"]["location"]).parts[:2] == (".cache", "images")


def test_no_pod_starts_before_its_image_is_there(evaluated: Evaluated) -> None:
    graph = evaluated("dev")
    namespace = graph.one("kubernetes:core/v1:Namespace", "mistral-7b-namespace")
    assert graph.one(IMAGE, "images-neuron").urn in namespace.dependencies


def test_going_down_needs_no_docker(evaluated: Evaluated) -> None:
    graph = evaluated("dev")
    assert all(image.retain_on_delete for image in graph.by_type(IMAGE))
    assert graph.one(REPOSITORY).inputs["forceDelete"] is True


def test_an_image_of_ones_own_is_not_built() -> None:
    graph = evaluate("dev", config_overrides={"services": with_image("registry.example/neuron:1")})
    assert pod_images(graph.one(RAY_SERVICE)) == {"registry.example/neuron:1"}
    assert [image.name for image in graph.by_type(IMAGE)] == ["images-chat-ui"]
    namespace = graph.one("kubernetes:core/v1:Namespace", "mistral-7b-namespace")
    assert graph.one(REPOSITORY).urn in namespace.dependencies


def test_an_edited_page_rolls_the_page_and_nothing_else(evaluated: Evaluated, tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path)
    (checkout / "chat_ui/page.py").open("a").write("# edited\n")
    edited, before = evaluate("dev", project_dir=checkout), evaluated("dev")
    assert changed(before, edited) == {"Image images-chat-ui", "Deployment chat-ui"}


def changed(before: Graph, after: Graph) -> set[str]:
    return {
        old.label
        for old, new in zip(before.resources, after.resources, strict=True)
        if old.custom and old.inputs != new.inputs
    }


def test_images_are_scanned_and_only_the_stacks_own_tags_are_pushed_again(evaluated: Evaluated) -> None:
    graph = evaluated("dev")
    repository = graph.one(REPOSITORY).inputs
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    excluded = [item["filter"].removesuffix("*") for item in repository["imageTagMutabilityExclusionFilters"]]
    tags = [tag.rpartition(":")[2] for image in graph.by_type(IMAGE) for tag in image.inputs["tags"]]
    assert len(excluded) == len(tags)
    assert all(tag.startswith(prefix) for tag, prefix in zip(sorted(tags), sorted(excluded), strict=True))


def test_untagged_images_expire(evaluated: Evaluated) -> None:
    policy = evaluated("dev").one("aws:ecr/lifecyclePolicy:LifecyclePolicy")
    assert policy.property_dependencies["repository"] == [evaluated("dev").one(REPOSITORY).urn]
    (rule,) = json.loads(policy.inputs["policy"])["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"


@pytest.mark.parametrize(
    ("service", "message"),
    [
        (
            {"app": "llm", "model": "m", "accelerator": "cpu"},
            r"services\.own\.image: missing, and the stack builds one only for accelerator 'neuron'",
        ),
        (
            {
                "app": "bring-your-own",
                "importPath": "a:b",
                "accelerator": "neuron",
                "instanceType": "inf2.8xlarge",
            },
            r"services\.own\.image: missing, and so is codeUrl",
        ),
    ],
)
def test_an_image_that_nobody_builds_is_asked_for(service: dict[str, Any], message: str) -> None:
    services = stack_file("dev")["neuron-serve:services"] | {"own": service}
    with pytest.raises(OfflineError, match=message):
        evaluate("dev", config_overrides={"services": services})
