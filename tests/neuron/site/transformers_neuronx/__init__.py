"""Stands where transformers-neuronx 0.13 would, in tests: an emulator of its published interface on the CPU.

It is no copy: the forward pass, the cache and the sampling are written for this purpose in plain torch, and
the mapping of arguments to graph inputs is held to `tests/neuron/recorded.json`, which the library's own
source produced. There are two layers:

* *Faithful*: what the library does, also where it does not raise. An omitted slot gets token 0 written to
  its position 0, a gap in the positions reads what was never written, and so on. What no graph has validly
  written is NaN here; on hardware it is whatever the last request left.
* *Strict* (`strict.py`, on unless the environment says `TNX_EMULATOR_STRICT=0`): raises `ContractError` at
  every call that the faithful layer would answer wrongly.
"""

from transformers_neuronx.config import (
    GQA,
    ContinuousBatchingConfig,
    GenerationConfig,
    Layout,
    NeuronConfig,
)
from transformers_neuronx.model import LlamaForSampling, MistralForSampling, NeuronAutoModelForCausalLM
from transformers_neuronx.strict import ContractError

__version__ = "0.13.0"

__all__ = [
    "GQA",
    "ContinuousBatchingConfig",
    "ContractError",
    "GenerationConfig",
    "Layout",
    "LlamaForSampling",
    "MistralForSampling",
    "NeuronAutoModelForCausalLM",
    "NeuronConfig",
]
