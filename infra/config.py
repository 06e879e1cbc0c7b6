"""The configuration of a stack: one model tree, read from the stack file, refused here or nowhere.

`load()` returns a `StackConfig` and the stack's secrets, or raises `ConfigError` with every finding at once:
each names the key, the value, the limit and the way out. Nothing is registered before it returns.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pulumi
from pydantic import Field, ValidationError, field_validator, model_validator

from infra import namespaces, versions
from infra.aws_config import Aws
from infra.config_errors import ConfigError, explain, shown
from infra.config_model import ConfigModel
from infra.gated_models import consent_page
from infra.gcs_store_config import GcsStore
from infra.monitoring_config import Monitoring
from infra.secrets_config import SECRET_KEYS, Secrets, read_secrets, setting_of
from infra.service_base import ModelService
from infra.service_config import CHAT_PAGE_APPS, EXAMPLE_SERVICE, AnyService, LlmService

# KubeRay appends "-xxxxx" for the Ray cluster's name, which it limits to 53 characters
# (ray-operator/controllers/ray/utils/constant.go, tag ray-operator/v1.7.0).
_SERVICE_NAME_MAX_CHARS = 47
# What KubeRay accepts as a name: an RFC 1035 label (same file, IsDNS1035Label).
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


# Keys of the stack whose value is a text, whatever it looks like.
_TEXT_KEYS = ("target", "kubeconfigContext")


class KubeRay(ConfigModel):
    """Where the operator comes from."""

    install: bool = Field(default=True, description="False if the cluster already runs KubeRay.")
    chart: str = Field(
        default="kuberay-operator",
        min_length=1,
        description="Chart name in `repository`, an `oci://` reference, or a path to a chart archive.",
    )
    repository: str | None = Field(
        default=versions.KUBERAY_CHART_REPOSITORY,
        description="Chart repository; null when `chart` is an `oci://` reference or a path.",
    )
    version: str = Field(default=versions.KUBERAY, description="Chart version.")
    image_repository: str | None = Field(
        default=None,
        description="Image of the operator without its tag, for a private mirror.",
        examples=["registry.example.com/kuberay/operator"],
    )


class ChatUi(ConfigModel):
    """The chat page, a plain Deployment that speaks the OpenAI API."""

    enabled: bool = Field(default=True, description="Whether the page is deployed.")
    image: str | None = Field(
        default=None,
        min_length=1,
        description="Image of images/chat-ui.Dockerfile. Unset, on aws: the stack builds and pushes it.",
        examples=["neuron-serve/chat-ui:0.1.0"],
    )


class StackConfig(ConfigModel):
    """All that a stack file says, apart from secrets."""

    target: Literal["aws", "kubernetes"] = Field(
        description="`aws`: build everything in an account. `kubernetes`: build on an existing cluster, "
        "found through a kubeconfig context."
    )
    aws: Aws | None = Field(default=None, description="The platform, with `target: aws`.")
    kubeconfig_context: str | None = Field(
        default=None,
        min_length=1,
        description="Context of the kubeconfig; the current one if unset.",
        examples=["kind-kind"],
    )
    kuberay: KubeRay = Field(default_factory=KubeRay, description="The KubeRay operator.")
    chat_ui: ChatUi = Field(
        default_factory=lambda: ChatUi.model_validate({"enabled": False}),
        description="The chat page over all `llm` and `stable-diffusion` services.",
    )
    gcs_store: GcsStore | None = Field(
        default=None,
        description="Where Ray's head keeps its state; `elasticache` on aws and `none` elsewhere if unset.",
    )
    monitoring: Monitoring = Field(
        default_factory=lambda: Monitoring.model_validate({}),
        description="Dashboards and alerts.",
        examples=[{"enabled": True}],
    )
    services: dict[str, AnyService] = Field(
        min_length=1, description="What runs, by name.", examples=[{"chat": EXAMPLE_SERVICE}]
    )

    @property
    def store(self) -> GcsStore:
        """`gcsStore`, or what the target has if the stack file does not say."""
        default = {"kind": "elasticache" if self.target == "aws" else "none"}
        return self.gcs_store or GcsStore.model_validate(default)

    @property
    def on_chat_page(self) -> list[str]:
        """Names of the services that the chat page talks to."""
        return [name for name, service in self.services.items() if isinstance(service, CHAT_PAGE_APPS)]

    @model_validator(mode="after")
    def _aws_goes_with_its_target(self) -> StackConfig:
        if (self.target == "aws") != (self.aws is not None):
            raise ValueError(
                "target: 'aws' needs the key aws; add it with zones, cluster and nodePools"
                if self.target == "aws"
                else f"aws: has no effect with target {self.target!r}; remove it, or set target to 'aws'"
            )
        if self.target == "aws" and self.kubeconfig_context is not None:
            raise ValueError("kubeconfigContext: has no effect with target 'aws'; remove it")
        if self.target != "aws" and self.gcs_store and self.gcs_store.kind == "elasticache":
            raise ValueError("gcsStore.kind: 'elasticache' needs target 'aws'; choose 'inCluster' or 'none'")
        return self

    @model_validator(mode="after")
    def _alarms_have_something_to_watch(self) -> StackConfig:
        if self.aws is None or not self.aws.alarms.notify:
            return self
        if self.store.kind != "elasticache" and not self.aws.ingress.enabled:
            raise ValueError(
                "aws.alarms.notify: has no effect; alarms watch a gcsStore of kind 'elasticache' and the "
                "certificate of aws.ingress, and this stack has neither; remove it"
            )
        return self

    @model_validator(mode="after")
    def _compiled_graphs_have_a_place(self) -> StackConfig:
        for name, service in self.services.items():
            if isinstance(service, LlmService) and service.precompile and self.target != "aws":
                raise ValueError(
                    f"services.{name}.precompile: true needs target 'aws', whose bucket keeps the graphs; "
                    "remove it"
                )
        return self

    @model_validator(mode="after")
    def _images_are_named_or_built(self) -> StackConfig:
        on_aws = self.target == "aws"
        if self.chat_ui.enabled and self.chat_ui.image is None and not on_aws:
            raise ValueError(
                "chatUi.image: missing; build images/chat-ui.Dockerfile and name the image here, or set "
                "chatUi.enabled to false"
            )
        for name, service in self.services.items():
            key = f"services.{name}.image"
            if service.image is not None:
                continue
            if not on_aws or service.accelerator != "neuron":
                raise ValueError(
                    f"{key}: missing, and the stack builds one only for accelerator 'neuron' on target "
                    "'aws'; build images/cpu.Dockerfile, or an image of your own, and name it here"
                )
            if not isinstance(service, ModelService) and service.code_url is None:
                raise ValueError(
                    f"{key}: missing, and so is codeUrl, and the image that the stack builds has no code of "
                    "yours; add one of them"
                )
        return self

    @field_validator("services")
    @classmethod
    def _names_fit_kubernetes(cls, services: dict[str, AnyService]) -> dict[str, AnyService]:
        for name in services:
            if not _SERVICE_NAME.fullmatch(name) or len(name) > _SERVICE_NAME_MAX_CHARS:
                raise ValueError(
                    f"{shown(name)} cannot name a service; choose at most {_SERVICE_NAME_MAX_CHARS} lower "
                    "case letters, digits and hyphens, first a letter, last a letter or a digit"
                )
            # A service's namespace has the service's name.
            if name in namespaces.RESERVED:
                raise ValueError(f"{name!r} is the name of a platform namespace; choose another service name")
        return services

    @model_validator(mode="after")
    def _chat_page_has_a_model(self) -> StackConfig:
        if self.chat_ui.enabled and not self.on_chat_page:
            raise ValueError(
                "chatUi.enabled: true, but no service has app 'llm' or 'stable-diffusion', so the page has "
                "nothing to talk to; set it to false"
            )
        return self

    @field_validator("services")
    @classmethod
    def _served_names_differ(cls, services: dict[str, AnyService]) -> dict[str, AnyService]:
        owner: dict[str, str] = {}
        for name, service in services.items():
            if isinstance(service, ModelService):
                served = service.served_name or name
                if served in owner:
                    raise ValueError(
                        f"{owner[served]!r} and {name!r} both serve {served!r}; "
                        "give one of them another servedName"
                    )
                owner[served] = name
        return services


def load() -> tuple[StackConfig, Secrets]:
    """Read the current stack's configuration. Raises `ConfigError` with all findings."""
    project = pulumi.get_project()
    raw = _project_config(project)
    secrets, findings = read_secrets(raw)
    plain = {key: _parsed(key, text) for key, text in raw.items() if key not in SECRET_KEYS}
    try:
        config = StackConfig.model_validate(plain)
    except ValidationError as error:
        secret = {key: plain[key] for key in plain if pulumi.runtime.is_config_secret(f"{project}:{key}")}
        findings += explain(error, StackConfig, secret)
        raise ConfigError(*findings) from None
    findings += _missing_secrets(config, secrets)
    if findings:
        raise ConfigError(*findings)
    return config, secrets


def _project_config(project: str) -> dict[str, str]:
    everything = pulumi.runtime.config.get_config_env() | pulumi.runtime.config.CONFIG.get()
    prefix = f"{project}:"
    return {key.removeprefix(prefix): text for key, text in everything.items() if key.startswith(prefix)}


def _parsed(key: str, text: str) -> Any:
    """What the stack file says at a key. The engine hands objects over as JSON, and scalars as they are."""
    try:
        value = json.loads(text, parse_float=_number)
    except ValueError:
        return text
    return text if key in _TEXT_KEYS and not isinstance(value, dict | list) else value


def _number(text: str) -> int | float:
    # 2e3 and 8.0 are whole numbers, as they are to YAML.
    value = float(text)
    return int(value) if value.is_integer() else value


def _missing_secrets(config: StackConfig, secrets: Secrets) -> list[str]:
    findings: list[str] = []
    if config.store.kind == "none" and secrets.gcs_store_auth_token is not None:
        findings.append(
            "gcsStoreAuthToken: has no effect without a gcsStore; remove it, or choose a gcsStore"
        )
    for name, service in config.services.items():
        if not isinstance(service, ModelService):
            continue
        page = consent_page(service.model)
        gated = service.gated if service.gated is not None else page is not None
        if gated and secrets.hugging_face_token is None:
            findings.append(
                f"services.{name}.model: {service.model!r} is gated and the stack has no huggingFaceToken; "
                f"request access at {page or 'the page of the model'} and "
                f"{setting_of('huggingFaceToken')}, or set gated to false"
            )
    return findings
