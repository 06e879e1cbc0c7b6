"""The whole application on a real Ray, real weights on the emulated NeuronCores, and where the cores go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from offline.local.ports import free_ports
from tests.neuron.conftest import SITE
from tests.serve.ray_app import as_in_a_cluster, own_ray
from tests.waiting import wait_until

MODEL = "smollm2-135m"
CORES, TENSOR_PARALLEL = 4, 2
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ROOT = Path(__file__).parents[2]


def application(model_dir: Path, name: str, sampling: str) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_apps.llm.app:build_app",
        "args": {
            "model": str(model_dir),
            "served_name": MODEL,
            "engine": "transformers-neuronx",
            "device": "neuron",
            "tensor_parallel": TENSOR_PARALLEL,
            "sampling": sampling,
            "dtype": "float32",
            "slots": 4,
            "max_model_len": 128,
            "auth": "none",
        },
        "deployments": [
            {"name": "Api", "user_config": {"release": "r1"}, "ray_actor_options": {"num_cpus": 0.1}},
            {
                "name": "Engine",
                "ray_actor_options": {"num_cpus": 0.5, "resources": {"neuron_cores": TENSOR_PARALLEL}},
            },
        ],
    }


@pytest.fixture(scope="module")
def url(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two applications on one node: `/host` samples on the host, `/device` on the device."""
    with pytest.MonkeyPatch.context() as environment:
        as_in_a_cluster(environment)
        environment.setenv("PYTHONPATH", f"{ROOT}:{SITE}")
        environment.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path_factory.mktemp("compile-cache")))
        with own_ray(resources={"neuron_cores": CORES}) as context:
            [port] = free_ports(1, "127.0.0.1")
            dashboard = f"http://{context.dashboard_url}/api/serve/applications/"
            config = {
                "proxy_location": "HeadOnly",
                "http_options": {"host": "127.0.0.1", "port": port},
                "applications": [application(model_dir, name, name) for name in ("host", "device")],
            }
            httpx.put(dashboard, json=config, timeout=60).raise_for_status()

            def running() -> bool:
                found: Mapping[str, Any] = httpx.get(dashboard, timeout=60).json()["applications"]
                for state in found.values():
                    assert state["status"] != "DEPLOY_FAILED", state["message"]
                return len(found) == 2 and all(state["status"] == "RUNNING" for state in found.values())

            wait_until(running, "both applications", timeout_s=240)
            yield f"http://127.0.0.1:{port}"


def client(url: str, name: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/{name}/v1", api_key="unused", max_retries=0, timeout=240)


@pytest.mark.parametrize("name", ["host", "device"])
def test_a_greedy_answer_is_that_of_transformers(url: str, model_dir: Path, name: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    network: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = network.generate(**prompt, max_new_tokens=16, do_sample=False)
    expected = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    answer = client(url, name).chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=16
    )
    assert answer.choices[0].message.content == expected
    assert "Paris" in expected


@pytest.mark.parametrize("name", ["host", "device"])
def test_more_clients_than_slots_get_the_answers_that_one_gets(url: str, name: str) -> None:
    prompts = [f"{number} and {number + 1} are" for number in range(6)]

    def ask(prompt: str) -> str:
        answer = client(url, name).completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=8)
        return answer.choices[0].text

    with ThreadPoolExecutor(len(prompts)) as threads:
        together = list(threads.map(ask, prompts))
    assert together == [ask(prompt) for prompt in prompts]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"seed": 1}, "takes no seed"), ({"extra_body": {"top_k": 65}}, "top_k is 65, the limit is 64")],
    ids=["seed", "top_k"],
)
def test_what_the_device_cannot_do_is_refused_with_the_way_out(
    url: str, parameters: dict[str, Any], words: str
) -> None:
    def ask(name: str) -> Any:
        return client(url, name).chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=2, **parameters
        )

    with pytest.raises(openai.BadRequestError, match=rf"{words}.*sampling: host"):
        ask("device")
    assert ask("host").usage.completion_tokens <= 2


def test_replicas_on_one_node_have_cores_of_their_own(url: str) -> None:
    """Ray hands out whole cores by number: two engines start beside each other, a third would wait."""
    import ray

    engines = [
        ray.get_actor(entry["name"], namespace=entry["namespace"])
        for entry in ray.util.list_named_actors(all_namespaces=True)
        if "#Engine#" in entry["name"]
    ]
    cores = [ray.get(engine.__ray_call__.remote(_visible_cores)) for engine in engines]
    assert [len(own) for own in cores] == [TENSOR_PARALLEL] * 2
    assert {core for own in cores for core in own} == set(range(CORES))
    assert ray.available_resources().get("neuron_cores", 0) == 0


def _visible_cores(_: Any) -> list[int]:
    import os

    return [int(core) for core in os.environ["NEURON_RT_VISIBLE_CORES"].split(",")]


def test_a_share_of_a_core_is_refused_by_ray() -> None:
    import ray

    with pytest.raises(ValueError, match="neuron_cores resource quantity must be whole numbers"):
        ray.remote(resources={"neuron_cores": 1.5})(_visible_cores)
