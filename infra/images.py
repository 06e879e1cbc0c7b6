"""The stack's image repository, and the images that it builds from this checkout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_docker_build as docker_build

from infra.image_builds import ImageBuild
from infra.service_base import Service

_UNTAGGED_IMAGE_DAYS = 14


@dataclass(frozen=True)
class ImagesArgs:
    """`repository_name` is the one that the references of the `builds` hold."""

    repository_name: str
    builds: Mapping[str, ImageBuild]
    tags: Mapping[str, str]


class Images(pulumi.ComponentResource):
    """Where nodes pull from. It goes with the stack, whatever is in it.

    - ECR repository with its lifecycle policy
    - Image by image: built by Docker on the machine that runs `pulumi up`, and pushed
    """

    repository: aws.ecr.Repository
    built: dict[str, docker_build.Image]
    """By name; each is in the repository when it is there."""

    def __init__(self, name: str, args: ImagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Images", name, None, opts)
        self._name = name
        self.repository = self._repository(args)
        self.built = {image: self._build(image, build) for image, build in args.builds.items()}
        self.register_outputs({"repository_url": self.repository.repository_url})

    def source_of(self, service: Service) -> pulumi.Resource:
        """What must be there before pods of the service start, and until the last of them is gone."""
        return self.repository if service.image is not None else self.built[service.accelerator]

    def _repository(self, args: ImagesArgs) -> aws.ecr.Repository:
        repository = aws.ecr.Repository(
            self._name,
            name=args.repository_name,
            # A tag that can be moved would let two nodes run two images under one name. The stack's own tags
            # are hashes of the content, and are pushed again by whoever rolls back to them.
            image_tag_mutability="IMMUTABLE_WITH_EXCLUSION" if args.builds else "IMMUTABLE",
            image_tag_mutability_exclusion_filters=[
                {"filter": f"{image}-*", "filter_type": "WILDCARD"} for image in args.builds
            ],
            image_scanning_configuration={"scan_on_push": True},
            # ECR refuses to delete a repository with images in it.
            force_delete=True,
            tags={**args.tags, "Name": args.repository_name},
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.ecr.LifecyclePolicy(
            self._name,
            repository=repository.name,
            policy=untagged_images_expire(),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return repository

    def _build(self, image: str, build: ImageBuild) -> docker_build.Image:
        login = aws.ecr.get_authorization_token_output(
            registry_id=self.repository.registry_id, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return docker_build.Image(
            f"{self._name}-{image}",
            context={"location": str(build.context)},
            dockerfile={"location": str(build.dockerfile)},
            target=build.target,
            platforms=[docker_build.Platform.LINUX_AMD64],
            tags=[build.reference],
            push=True,
            # A preview needs no Docker, and shows a new image by its tag.
            build_on_preview=False,
            # What was built under this tag once is not built anew, so that a roll-back takes seconds.
            cache_from=[{"registry": {"ref": build.reference}}],
            cache_to=[{"inline": {}}],
            registries=[
                {
                    "address": self.repository.repository_url,
                    "username": login.user_name,
                    "password": pulumi.Output.secret(login.password),
                }
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[self.repository],
                # The image goes with its repository; deleting it alone would ask for Docker on the way down.
                retain_on_delete=True,
            ),
        )


def untagged_images_expire() -> str:
    """An ECR lifecycle policy for images that nothing can name any more; tagged ones may be in use."""
    selection = {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": _UNTAGGED_IMAGE_DAYS,
    }
    return json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})
