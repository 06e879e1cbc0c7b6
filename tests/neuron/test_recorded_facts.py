"""The emulator against what the library's own source did and says, recorded in recorded.json."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.neuron.record_facts import described, parameters, synthetic_output

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())


def test_the_facts_say_where_they_come_from() -> None:
    assert FACTS["source"]["repository"] == "https://github.com/aws-neuron/transformers-neuronx"
    assert len(FACTS["source"]["commit"]) == 40


@pytest.mark.parametrize("name", FACTS["signatures"])
def test_a_signature_is_the_library_s(emulator: Any, name: str) -> None:
    class_name, method = name.split(".")
    # These two bases are not public; what they define is reached by the classes that are.
    owner = {"NeuronModelBase": "LlamaForSampling", "PretrainedModel": "LlamaForSampling"}
    function = getattr(getattr(emulator, owner.get(class_name, class_name)), method)
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    assert parameters(tree.args) == FACTS["signatures"][name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_an_enumeration_is_the_library_s(emulator: Any, name: str) -> None:
    assert {member.name: member.value for member in getattr(emulator, name)} == FACTS["enums"][name]


@pytest.mark.parametrize("fact", FACTS["calls"], ids=lambda fact: f"{fact['name']}, {fact['sampling']}")
def test_a_call_reaches_the_graphs_as_in_the_library(
    emulator: Any, lenient: None, fact: dict[str, Any]
) -> None:
    model, noted = noting_model(emulator, fact["sampling"])
    arguments = [
        torch.tensor(given["values"], dtype=getattr(torch, given["dtype"])) for given in fact["arguments"]
    ]
    if "raises" in fact:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - the type is compared below
            model(*arguments)
        assert type(raised.value).__name__ == fact["raises"]
        assert not noted
        return
    result = described(model(*arguments))
    assert noted == fact["graphs"]
    assert result == fact["result"]


def noting_model(emulator: Any, sampling: str) -> tuple[Any, list[dict[str, Any]]]:
    noted: list[dict[str, Any]] = []
    slots = FACTS["slots"]

    class Noting(emulator.MistralForSampling):
        vocabulary = FACTS["vocabulary"]

        def run_graph(self, name: str, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            noted.append({"graph": name, "inputs": [described(tensor) for tensor in inputs]})
            return synthetic_output(slots if name == "decode" else 1, device=sampling == "device")

    config = emulator.NeuronConfig(
        continuous_batching=emulator.ContinuousBatchingConfig(batch_size_for_shared_caches=slots),
        on_device_generation=emulator.GenerationConfig() if sampling == "device" else None,
    )
    buckets = FACTS["context_buckets"]
    model = Noting.from_pretrained(
        "nowhere",
        batch_size=slots,
        n_positions=[buckets[-1]],
        context_length_estimate=buckets,
        neuron_config=config,
    )
    return model, noted
