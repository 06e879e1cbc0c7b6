"""A replica that cannot work is refused with what would fit; one that only may not is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from infra.config_errors import ConfigError
from infra.instances import HBM_BYTES
from infra.service_config import LlmService
from tests.unit.plans import CPU, NEURON
from workloads.fit import Fit, replica_fit
from workloads.placement import place

SMALL = {"tensorParallel": 1, "instanceType": "inf2.8xlarge", "slots": 2}


def fit(base: dict[str, Any] = NEURON, **changes: Any) -> Fit:
    service = LlmService.model_validate(base | changes)
    return replica_fit("chat", service, place("chat", service))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"maxModelLen": 16384},
            r"chat.maxModelLen: 16384 is beyond the context of '.*', 8192 tokens; lower it to 8192 or less",
        ),
        (
            {"model": "google/gemma-2b"},
            r"chat.model: 'google/gemma-2b' is of the family 'gemma', .* serves only llama and mistral; "
            r"choose such a model, or accelerator: nvidia or cpu",
        ),
        (
            {"model": "NousResearch/Llama-2-13b-hf", "tensorParallel": 1},
            r"chat.tensorParallel: with 1 a replica needs 3\d.\d GiB of every NeuronCore of inf2.24xlarge "
            r"\(weights 23.9 GiB, KV cache 12.5 GiB\), which has 16.0 GiB; it fits with tensorParallel 4$",
        ),
        (
            {**SMALL, "slots": 16},
            r"with 1 a replica needs 18.0 GiB .* it fits with tensorParallel 2, or slots \d, or maxModelLen",
        ),
        (
            {**SMALL, "instanceType": "inf2.8xlarge", "tensorParallel": 2, "slots": 64, "maxModelLen": 8192},
            r"it fits with tensorParallel 8 on inf2.24xlarge, or slots \d+, or maxModelLen \d+",
        ),
        (
            {**SMALL, "maxModelLen": 1024, "neuronWorkspaceMib": 2048},
            r"\(weights 14.0 GiB, KV cache 0.2 GiB, workspace 2.0 GiB\), which has 16.0 GiB; it fits with",
        ),
    ],
)
def test_a_replica_that_cannot_work_is_refused_with_what_would(
    changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        fit(**changes)


def test_what_a_refusal_suggests_is_accepted() -> None:
    with pytest.raises(ConfigError) as refused:
        fit(**SMALL | {"slots": 16})
    words = str(refused.value).split("it fits with ")[1].replace(",", "").split(" or ")
    for key, value in (suggestion.split() for suggestion in words):
        suggested = fit(**SMALL | {"slots": 16, key: int(value)})
        assert suggested.memory is not None
        assert suggested.memory.total <= HBM_BYTES


def test_a_replica_that_fits_only_without_its_estimated_workspace_is_warned_of() -> None:
    tight = fit(**SMALL | {"slots": 8})
    assert any("programs are estimated to need" in warning for warning in tight.warnings)
    assert fit(**SMALL).warnings == ()


def test_a_model_without_a_known_shape_is_warned_of_and_not_refused() -> None:
    unknown = fit(model="somebody/else")
    assert unknown.memory is None
    assert "the shape of 'somebody/else' is not known here" in unknown.warnings[0]
    assert fit(CPU, model="somebody/else") == Fit()


def test_a_host_that_can_hardly_load_the_weights_is_warned_of() -> None:
    host = fit(instanceType="inf2.xlarge")
    assert "may not fit while they load; choose a larger type" in host.warnings[0]


def test_padding_is_told() -> None:
    padded = fit(instanceType="inf2.48xlarge", tensorParallel=24)
    assert "24 pads 32 heads to 48 and 8 KV heads to 24" in padded.notes[0]
    assert fit().notes == ()


def test_the_context_of_a_model_holds_on_every_accelerator() -> None:
    with pytest.raises(ConfigError, match=r"chat.maxModelLen: 9000 is beyond .* 8192 tokens"):
        fit(CPU, maxModelLen=9000)
