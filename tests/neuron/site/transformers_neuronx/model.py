"""The model classes: from a call's arguments to a graph's inputs, and from its output to a result."""

from __future__ import annotations

import bisect
import json
import os
from pathlib import Path
from typing import Any

import torch

from transformers_neuronx import strict
from transformers_neuronx.compiler import compile_graph
from transformers_neuronx.config import NeuronConfig
from transformers_neuronx.device_sampling import DeviceSampler
from transformers_neuronx.network import Network

_GRAPH_INPUTS = 6


class NeuronModelBase:
    """What Llama and Mistral share; only continuous batching is emulated."""

    def __init__(
        self,
        config: Any,
        *,
        n_positions: Any,
        batch_size: Any,
        amp: str,
        tp_degree: int,
        context_length_estimate: Any,
        neuron_config: NeuronConfig | None,
    ) -> None:
        self.directory: Path = config
        self.neuron_config = neuron_config or NeuronConfig()
        if not self.neuron_config.continuous_batching:
            raise NotImplementedError("the emulator knows continuous batching only")
        self.token_buckets = sorted(n_positions) if isinstance(n_positions, list) else _doubled(n_positions)
        self.context_buckets = _context_sizes(context_length_estimate, self.token_buckets)
        self.slots: int = batch_size
        self._amp, self._tp_degree = amp, tp_degree
        self._network: Network | None = None
        self._sampler: DeviceSampler | None = None
        self._rules: strict.Rules | None = None
        self._graphs: dict[str, bytes] = {}

    @classmethod
    def from_pretrained(cls, pretrained_model_path: str, *model_args: Any, **kwargs: Any) -> Any:
        if strict.enabled():
            strict.check_keywords(kwargs)
        batching = kwargs["neuron_config"].continuous_batching
        assert batching.batch_size_for_shared_caches == kwargs.get("batch_size"), "the batch sizes differ"
        longest, prompts = kwargs.get("n_positions", 2048), kwargs.get("context_length_estimate")
        if isinstance(longest, list) and isinstance(prompts, list) and prompts:
            assert max(longest) >= max(prompts), "a context bucket is longer than n_positions"
        return cls(Path(pretrained_model_path), *model_args, **kwargs)

    # --- loading ---------------------------------------------------------------------------------------

    def to_neuron(self) -> None:
        _init_device()
        self._load_weights()
        if not self._graphs:
            self.compile(parallel_degree=self.neuron_config.compilation_worker_count)

    def cpu_compile(self) -> None:
        self._load_weights()
        self.compile(parallel_degree=self.neuron_config.compilation_worker_count)
        # The weights are on the host, and no graph is on the device.
        self._network = None

    def compile(self, parallel_degree: int | None = None) -> None:
        self._graphs = {name: compile_graph(self._describe(name)) for name in self._graph_names()}

    def save(self, directory: str, sharded_weights: bool = False) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name, graph in self._graphs.items():
            Path(directory, f"{name}.neff").write_bytes(graph)

    def load(self, directory: str) -> None:
        self._graphs = {n: Path(directory, f"{n}.neff").read_bytes() for n in self._graph_names()}

    def update_generation_config(self, generation_config: Any) -> None:
        if self._rules:
            self._rules.check_update(generation_config)
        assert self._sampler, "the model was compiled without sampling, or not yet"
        self._sampler.write(generation_config)

    def _load_weights(self) -> None:
        if self.slots < 2:
            raise NotImplementedError("a prefill is implemented for fewer rows than slots")
        if len(set(self.context_buckets)) < len(self.context_buckets):
            raise AttributeError("the decoder of a repeated context bucket has no program")
        if strict.enabled():
            self._rules = strict.Rules(self.slots, self.context_buckets, self.token_buckets)
        self._network = Network(
            self.directory, amp=self._amp, slots=self.slots, positions=self.token_buckets[-1]
        )
        generation = self.neuron_config.on_device_generation
        if generation:
            if self._rules:
                self._rules.check_generation(generation)
                self._rules.traced(generation)
            self._sampler = DeviceSampler(generation, self.slots)
            self._sampler.trace()

    def _graph_names(self) -> list[str]:
        contexts = [f"prefill-{size}" for size in self.context_buckets]
        return contexts + [f"decode-{size}" for size in self.token_buckets]

    def _describe(self, graph: str) -> str:
        """What a compiler would see: shapes and settings, no weights."""
        assert self._network
        shapes = (self._network.layers, self._network.heads, self._network.kv_heads, self._network.vocabulary)
        sampling = self._sampler is not None
        return json.dumps([graph, self.slots, self._amp, self._tp_degree, shapes, sampling])

    # --- a call ----------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.forward(*args, **kwargs)

    def forward(self, input_ids: Any, cache_ids: Any = None, start_ids: Any = None) -> torch.Tensor:
        if self._rules:
            self._rules.check_call(input_ids, cache_ids, start_ids)
        width = input_ids.shape[1]
        if width == 1:
            return self._decode(input_ids, cache_ids, start_ids)
        assert cache_ids.flatten()[0].item() == 0, "no speculative decoder was compiled"
        return self._prefill(input_ids, cache_ids, start_ids)

    def _prefill(self, ids: torch.Tensor, cache_ids: torch.Tensor, start_ids: torch.Tensor) -> torch.Tensor:
        rows, width = ids.shape
        bucket = _bucket_of(self.context_buckets, width)
        assert width <= bucket, f"a prompt of {width} tokens, the largest bucket has {bucket}"
        last = cache_ids.max(dim=1).values
        if width < bucket:
            ids = torch.nn.functional.pad(ids, (0, bucket - width))
            cache_ids = torch.arange(bucket, dtype=torch.int32).expand(rows, bucket)
        nothing = torch.tensor([0])
        if rows == 1:
            return self._result(
                self.run_graph(f"prefill {bucket}", (ids, cache_ids, start_ids, last, nothing, nothing))
            )
        # Row by row, and without the last two inputs.
        outputs = [
            self.run_graph(
                f"prefill {bucket}",
                tuple(tensor[row : row + 1] for tensor in (ids, cache_ids, start_ids, last)),
            )
            for row in range(rows)
        ]
        return self._result(torch.cat(outputs, dim=0 if self.neuron_config.on_device_generation else -1))

    def _decode(self, ids: torch.Tensor, cache_ids: torch.Tensor, start_ids: torch.Tensor) -> torch.Tensor:
        all_ids = torch.zeros(self.slots, 1, dtype=ids.dtype)
        all_cache_ids = torch.zeros(self.slots, 1, dtype=ids.dtype)
        rows = start_ids.reshape(-1, 1).to(torch.int64)
        all_ids.scatter_(0, rows, ids)
        all_cache_ids.scatter_(0, rows, cache_ids)
        nothing = torch.tensor([0])
        everyone = torch.arange(self.slots, dtype=torch.int32)
        last = torch.zeros(self.slots, dtype=torch.int32)
        output = self.run_graph("decode", (all_ids, all_cache_ids, everyone, last, nothing, nothing))
        return self._result(output)[start_ids.flatten().long()]

    def run_graph(self, name: str, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Logits [vocabulary, 1, rows], or tokens [rows, 1] where the graph samples."""
        assert self._network, "to_neuron was not called"
        if len(inputs) != _GRAPH_INPUTS:
            # What the runtime makes of too few inputs is not published; here it is an error.
            raise RuntimeError(f"a graph of {_GRAPH_INPUTS} inputs was given {len(inputs)}")
        kind, _, _ = name.partition(" ")
        if kind == "prefill":
            logits = self._network.prefill(inputs)
        else:
            longest = int(inputs[1].max())
            bucket = next(size for size in self.token_buckets if size > longest)
            logits = self._network.decode(bucket, inputs)
        return self._sampler(logits, inputs[2]) if self._sampler else logits

    def _result(self, output: torch.Tensor) -> torch.Tensor:
        if self.neuron_config.on_device_generation:
            return output
        return output[: self.vocabulary, -1].T.float()

    @property
    def vocabulary(self) -> int:
        assert self._network
        return self._network.vocabulary


class LlamaForSampling(NeuronModelBase):
    def __init__(
        self,
        config: Any,
        *,
        n_positions: Any = 2048,
        batch_size: Any = 1,
        amp: str = "f32",
        tp_degree: int = 2,
        context_length_estimate: Any = None,
        context_unroll: Any = None,
        unroll: Any = None,
        neuron_config: NeuronConfig | None = None,
        prefixed_length: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            config,
            n_positions=n_positions,
            batch_size=batch_size,
            amp=amp,
            tp_degree=tp_degree,
            context_length_estimate=context_length_estimate,
            neuron_config=neuron_config,
        )

    def forward(
        self,
        input_ids: Any,
        cache_ids: Any = None,
        start_ids: Any = None,
        last_token_id: Any = None,
        input_embeddings: Any = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        assert last_token_id is None
        assert input_embeddings is None
        return super().forward(input_ids, cache_ids, start_ids)


class MistralForSampling(NeuronModelBase):
    def __init__(
        self,
        config: Any,
        *,
        n_positions: Any = 2048,
        batch_size: Any = 1,
        amp: str = "f32",
        tp_degree: int = 2,
        context_length_estimate: Any = None,
        context_unroll: Any = None,
        unroll: Any = None,
        neuron_config: NeuronConfig = NeuronConfig(),  # noqa: B008 - as published
        **kwargs: Any,
    ) -> None:
        super().__init__(
            config,
            n_positions=n_positions,
            batch_size=batch_size,
            amp=amp,
            tp_degree=tp_degree,
            context_length_estimate=context_length_estimate,
            neuron_config=neuron_config,
        )

    def forward(self, input_ids: Any, cache_ids: Any = None, start_ids: Any = None) -> torch.Tensor:
        return super().forward(input_ids, cache_ids, start_ids)


class NeuronAutoModelForCausalLM:
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *model_args: Any, **kwargs: Any) -> Any:
        config = json.loads(Path(pretrained_model_name_or_path, "config.json").read_text())
        classes = {"llama": LlamaForSampling, "mistral": MistralForSampling}
        assert config["model_type"] in classes, f"{config['model_type']!r} is not emulated"
        return classes[config["model_type"]].from_pretrained(
            pretrained_model_name_or_path, *model_args, **kwargs
        )


def _init_device() -> None:
    """What `ops.init` asks of the runtime; the environment can say that there is no device."""
    if os.environ.get("TNX_EMULATOR_DEVICE", "1") == "0":
        raise RuntimeError("no Neuron device")


def _doubled(longest: int) -> list[int]:
    sizes = [128]
    while sizes[-1] < longest:
        sizes.append(min(sizes[-1] * 2, longest))
    return [*sizes[:-1], longest]


def _context_sizes(asked: Any, token_buckets: list[int]) -> list[int]:
    if asked is None:
        return [size // 2 for size in token_buckets]
    sizes = sorted(asked) if isinstance(asked, list) else [asked] * (asked > 0)
    if not sizes:
        raise TypeError("continuous batching without a context bucket")
    return sizes


def _bucket_of(buckets: list[int], size: int) -> int:
    return buckets[min(bisect.bisect_left(buckets, size), len(buckets) - 1)]
