"""From a service to the arguments of the app that runs it."""

from __future__ import annotations

from pydantic import BaseModel

from infra.service_base import ModelService
from infra.service_config import EmbeddingsService, LlmService, StableDiffusionService
from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.llm.args import LlmArgs
from serve_apps.stable_diffusion.args import StableDiffusionArgs

_DEVICES = {"cpu": "cpu", "nvidia": "cuda", "neuron": "neuron"}


def app_args(name: str, service: ModelService) -> BaseModel:
    """What `build_app` of the service's app gets."""
    common = {
        "model": service.model,
        "served_name": service.served_name or name,
        "device": _DEVICES[service.accelerator],
        "max_queue": service.max_queue,
        "request_timeout_s": service.request_timeout_seconds,
        "auth": service.auth,
    }
    if isinstance(service, LlmService):
        on_neuron = service.accelerator == "neuron"
        return LlmArgs.model_validate(
            common
            | {
                "engine": service.engine or ("transformers-neuronx" if on_neuron else "torch"),
                "dtype": service.dtype,
                "tensor_parallel": service.tensor_parallel,
                "slots": service.slots,
                "max_model_len": service.max_model_len,
                "sampling": service.sampling,
                "step_timeout_s": service.step_timeout_seconds,
                "stream_interval_ms": service.stream_interval_milliseconds,
            }
        )
    if isinstance(service, EmbeddingsService):
        return EmbeddingsArgs.model_validate(
            common
            | {
                "neuron_cores": service.neuron_cores,
                "max_input_tokens": service.max_input_tokens,
                "max_batch": service.max_batch,
            }
        )
    if isinstance(service, StableDiffusionService):
        return StableDiffusionArgs.model_validate(
            common | {"neuron_cores": service.neuron_cores, "sizes": service.sizes}
        )
    raise TypeError(f"no app runs a {type(service).__name__}")
