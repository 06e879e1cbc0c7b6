"""The images that a stack on AWS builds itself: plain values, known before anything is registered.

The tag of an image is a hash of what goes into it. So a preview knows every reference, and pods change when,
and only when, their image does. A digest is unknown until the image is built, and would look like another Ray
cluster in every first preview.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pulumi_aws as aws

from infra.checkout import ROOT, is_left_behind
from infra.config import StackConfig

# Relative, so that the path that the engine is given is the same in every checkout.
_CONTEXTS = Path(".cache") / "images"
_DIGEST_CHARS = 16


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile of images/, all files of the checkout that it copies, and its stage if not the last."""

    dockerfile: str
    sources: tuple[str, ...]
    target: str | None = None


RECIPES = {
    # Without the app's code, which comes from the bucket: another line of it is not another Ray cluster.
    "neuron": Recipe("images/neuron.Dockerfile", ("images/requirements-neuron.txt",), target="runtime"),
    "chat-ui": Recipe("images/chat-ui.Dockerfile", ("images/requirements-chat-ui.txt", "chat_ui")),
}


@dataclass(frozen=True)
class ImageBuild:
    """An image yet to be built: its context (a folder with all its files) and what pods call it."""

    context: Path
    dockerfile: Path
    target: str | None
    reference: str


def image_builds(stack: StackConfig) -> dict[str, ImageBuild]:
    """The images that services or the chat page need and the stack file does not name. Asks AWS who it is."""
    if stack.aws is None:
        return {}
    wanted = wanted_images(stack)
    registry = _registry(stack.aws.region) if wanted else ""
    return {name: image_build(name, f"{registry}/{stack.aws.name}") for name in wanted}


def service_images(stack: StackConfig, builds: Mapping[str, ImageBuild]) -> dict[str, str]:
    """The image of every service: the stack file's, or the one that is built for its accelerator."""
    return {
        name: service.image or builds[service.accelerator].reference
        for name, service in stack.services.items()
    }


def chat_ui_image(stack: StackConfig, builds: Mapping[str, ImageBuild]) -> str | None:
    """The image of the chat page, None where the stack has none."""
    if not stack.chat_ui.enabled:
        return None
    return stack.chat_ui.image or builds["chat-ui"].reference


def wanted_images(stack: StackConfig) -> list[str]:
    """Names of the images that the stack builds."""
    wanted = {service.accelerator for service in stack.services.values() if service.image is None}
    if stack.chat_ui.enabled and stack.chat_ui.image is None:
        wanted.add("chat-ui")
    return sorted(wanted)


def _registry(region: str) -> str:
    partition = aws.get_partition()
    return f"{aws.get_caller_identity().account_id}.dkr.ecr.{region}.{partition.dns_suffix}"


def image_build(name: str, repository: str, *, root: Path = ROOT, directory: Path = _CONTEXTS) -> ImageBuild:
    """Write the build context of an image into `directory`, unless it is there already."""
    recipe = RECIPES[name]
    files = {path: (root / path).read_bytes() for path in sorted(_files(recipe, root))}
    digest = _digest(files)
    context = directory / f"{name}-{digest}"
    if not context.is_dir():
        _write(context, files)
    return ImageBuild(
        context=context,
        dockerfile=context / recipe.dockerfile,
        target=recipe.target,
        reference=f"{repository}:{name}-{digest}",
    )


def _files(recipe: Recipe, root: Path) -> Iterator[str]:
    yield recipe.dockerfile
    for source in recipe.sources:
        path = root / source
        for file in path.rglob("*") if path.is_dir() else [path]:
            relative = file.relative_to(root)
            if file.is_file() and not is_left_behind(relative):
                yield relative.as_posix()


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in files.items():
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()[:_DIGEST_CHARS]


def _write(context: Path, files: Mapping[str, bytes]) -> None:
    context.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another evaluation may want the same context now.
    unfinished = Path(tempfile.mkdtemp(dir=context.parent))
    for name, content in files.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        unfinished.rename(context)
    except OSError:
        # The other evaluation was first.
        shutil.rmtree(unfinished)
        if not context.is_dir():
            raise
