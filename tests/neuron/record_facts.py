"""Records what transformers-neuronx itself does with a call, as data that the emulator is held to.

    git clone https://github.com/aws-neuron/transformers-neuronx
    git -C transformers-neuronx checkout 1ade6d7
    python -m tests.neuron.record_facts transformers-neuronx > tests/neuron/recorded.json

The library cannot be imported without its compiler, but the file that maps arguments to graph inputs
(`base.py`) needs only torch. It runs here over graphs that note their inputs and return numbers that tell
rows apart. Signatures are read from the sources.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import torch

SLOTS, CONTEXT_BUCKETS, VOCABULARY = 4, [8, 16], 5

# name -> input_ids, cache_ids, start_ids, dtypes of the three
CALLS: dict[str, tuple[list[list[int]], list[list[int]], list[int], tuple[str, str, str]]] = {
    "prefill": ([[7, 8, 9]], [[0, 1, 2]], [2], ("int64", "int64", "int64")),
    "prefill that fills a bucket": ([[*range(1, 9)]], [[*range(8)]], [0], ("int64", "int64", "int64")),
    "prefill into the second bucket": ([[*range(1, 10)]], [[*range(9)]], [3], ("int64", "int64", "int64")),
    "prefill of one token": ([[7, 0]], [[0, 0]], [1], ("int64", "int64", "int64")),
    "one token as it is": ([[7]], [[0]], [1], ("int64", "int64", "int64")),
    "prefill in int32": ([[7, 8, 9]], [[0, 1, 2]], [2], ("int32", "int32", "int32")),
    "prefill with a gap": ([[7, 8, 9]], [[0, 1, 5]], [2], ("int64", "int64", "int64")),
    "prefill of a whole bucket with a gap": (
        [[*range(1, 9)]],
        [[0, 1, 2, 3, 3, 5, 6, 7]],
        [2],
        ("int64", "int64", "int64"),
    ),
    "prefill beyond the last bucket": ([[1] * 17], [[*range(17)]], [0], ("int64", "int64", "int64")),
    "prefill into a slot that is not there": ([[7, 8]], [[0, 1]], [4], ("int64", "int64", "int64")),
    "prefill of two rows": ([[7, 8], [5, 6]], [[0, 1], [0, 1]], [0, 1], ("int64", "int64", "int64")),
    "prefill and decode in one call": ([[7, 8], [5, 0]], [[0, 1], [6, 0]], [0, 1], ("int64",) * 3),
    "prefill that starts later": ([[7, 8]], [[3, 4]], [0], ("int64", "int64", "int64")),
    "decode of all": ([[1], [2], [3], [4]], [[5], [6], [7], [8]], [0, 1, 2, 3], ("int64",) * 3),
    "decode of some": ([[1], [3]], [[5], [7]], [0, 2], ("int64", "int64", "int64")),
    "decode out of order": ([[3], [1]], [[7], [5]], [2, 0], ("int64", "int64", "int64")),
    "decode of a slot twice": ([[1], [3]], [[5], [7]], [2, 2], ("int64", "int64", "int64")),
    "decode with other cache ids": ([[1], [3]], [[5], [7]], [0, 2], ("int64", "int32", "int64")),
    "decode in int32": ([[1], [3]], [[5], [7]], [0, 2], ("int32", "int32", "int32")),
    "decode of a slot that is not there": ([[1]], [[5]], [4], ("int64", "int64", "int64")),
}
SIGNATURES = {
    "LlamaForSampling.__init__": "llama/model.py",
    "LlamaForSampling.forward": "llama/model.py",
    "MistralForSampling.__init__": "mistral/model.py",
    "MistralForSampling.forward": "mistral/model.py",
    "NeuronModelBase.to_neuron": "base.py",
    "NeuronModelBase.cpu_compile": "base.py",
    "NeuronModelBase.compile": "base.py",
    "NeuronModelBase.save": "base.py",
    "NeuronModelBase.load": "base.py",
    "NeuronModelBase.update_generation_config": "base.py",
    "GenerationConfig.__init__": "config.py",
    "NeuronConfig.__init__": "config.py",
    "ContinuousBatchingConfig.__init__": "config.py",
    "PretrainedModel.from_pretrained": "module.py",
}


def main() -> None:
    checkout = Path(sys.argv[1])
    source = checkout / "src" / "transformers_neuronx"
    commit = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    model_class = model_over_noting_graphs(load_base(source))
    recorded = {
        "source": {
            "repository": "https://github.com/aws-neuron/transformers-neuronx",
            "commit": commit,
            "version": "0.13.x",
        },
        "slots": SLOTS,
        "context_buckets": CONTEXT_BUCKETS,
        "vocabulary": VOCABULARY,
        "signatures": {name: signature(source / file, name) for name, file in SIGNATURES.items()},
        "enums": {name: members(source / "constants.py", name) for name in ("GQA", "Layout")},
        "calls": [
            {"name": name, "sampling": sampling, **observe(model_class(sampling), *call)}
            for name, call in CALLS.items()
            for sampling in ("host", "device")
        ],
    }
    # A line for each fact, so that a difference between two versions can be read.
    calls = ",\n".join(json.dumps(call) for call in recorded.pop("calls"))
    print(f'{json.dumps(recorded, indent=1)[:-2]},\n "calls": [\n{calls}\n]}}')


def load_base(source: Path) -> types.ModuleType:
    """`base.py` with the real `bucket`, `config`, `constants`, `module` and `utils` beside it."""
    package = types.ModuleType("transformers_neuronx")
    package.__path__ = [str(source)]
    sys.modules["transformers_neuronx"] = package
    constants = _load("constants", source)
    package.GQA, package.Layout = constants.GQA, constants.Layout  # type: ignore[attr-defined]
    package.SparseAttnConfig = object  # type: ignore[attr-defined]
    package.NeuronConfig = _load("config", source).NeuronConfig  # type: ignore[attr-defined]
    for name in ("ops", "compiler"):
        sys.modules[f"transformers_neuronx.{name}"] = types.ModuleType(name)
        setattr(package, name, sys.modules[f"transformers_neuronx.{name}"])
    sys.modules["transformers_neuronx.compiler"].ParallelKernel = object  # type: ignore[attr-defined]
    return _load("base", source)


def _load(name: str, source: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"transformers_neuronx.{name}", source / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def model_over_noting_graphs(base: Any) -> Any:
    """A model class like Mistral's, whose graphs note their inputs instead of computing."""
    config = sys.modules["transformers_neuronx.config"]

    class Model(base.NeuronModelBase):
        def __init__(self, sampling: str) -> None:
            torch.nn.Module.__init__(self)
            self.noted: list[dict[str, Any]] = []
            self.neuron_config = config.NeuronConfig(  # type: ignore[attr-defined]
                continuous_batching=config.ContinuousBatchingConfig(  # type: ignore[attr-defined]
                    batch_size_for_shared_caches=SLOTS
                ),
                attention_layout="BSH",
                on_device_generation=object() if sampling == "device" else None,
            )
            self.config = types.SimpleNamespace(vocab_size=VOCABULARY)
            self.context_buckets, self.context_batch_sizes = CONTEXT_BUCKETS, [1]
            self.decoder_lm_head_for_speculation: dict[Any, Any] = {}
            self.decoder_lm_head = self.graph("decode", SLOTS)
            self.decoder_lm_head_for_context = {
                (size, 1): self.graph(f"prefill {size}", 1) for size in CONTEXT_BUCKETS
            }

        def graph(self, name: str, rows: int) -> Any:
            def run(hidden: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
                inputs = (hidden.squeeze(-1), *rest)
                self.noted.append({"graph": name, "inputs": [described(tensor) for tensor in inputs]})
                return synthetic_output(rows, device=bool(self.neuron_config.on_device_generation))

            return run

        def forward(self, input_ids: Any, cache_ids: Any = None, start_ids: Any = None) -> Any:
            inputs, *rest = self._preprocess(input_ids, start_ids=start_ids, cache_ids=cache_ids)
            logits = self._forward(inputs.unsqueeze(-1), *rest)
            return self._postprocess(input_ids, logits, start_ids=start_ids)

    return Model


def synthetic_output(rows: int, *, device: bool) -> torch.Tensor:
    """What a graph of `rows` rows returns: tokens [rows, 1], or logits [vocabulary + padding, 1, rows]."""
    if device:
        return 100 + torch.arange(rows).reshape(rows, 1)
    # Two more than the vocabulary, which the library pads to a multiple of the tensor-parallel degree.
    return (torch.arange(VOCABULARY + 2)[:, None, None] * 10 + torch.arange(rows)).float()


def observe(
    model: Any, ids: list[list[int]], positions: list[list[int]], slots: list[int], dtypes: tuple[str, ...]
) -> dict[str, Any]:
    """The call, what it gave the graphs, and what came back or was raised."""
    arguments = [
        torch.tensor(values, dtype=getattr(torch, dtype))
        for values, dtype in zip((ids, positions, slots), dtypes, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome: dict[str, Any] = {"result": described(model.forward(*arguments))}
        except Exception as error:
            outcome = {"raises": type(error).__name__}
    return {"arguments": [described(tensor) for tensor in arguments], "graphs": model.noted, **outcome}


def described(tensor: torch.Tensor) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "values": tensor.tolist()}


def signature(file: Path, name: str) -> list[str]:
    """The parameters of `Class.method`, each as `name` or `name=default`, `*` and `**` as written."""
    class_name, method = name.split(".")
    tree = ast.parse(file.read_text())
    found = next(
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    function = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == method)
    return parameters(function.args)


def parameters(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    shown = [_shown(a.arg, d) for a, d in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        shown.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [_shown(a.arg, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        shown.append(f"**{arguments.kwarg.arg}")
    return shown


def _shown(name: str, default: ast.expr | None) -> str:
    return name if default is None else f"{name}={ast.unparse(default)}"


def members(file: Path, name: str) -> dict[str, str]:
    tree = ast.parse(file.read_text())
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    assigned = [node for node in found.body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assigned}


if __name__ == "__main__":
    main()
