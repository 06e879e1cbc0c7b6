"""The Ray Serve application: the API in front, encoders behind it that compute requests in batches."""

# No `from __future__ import annotations`, and imports where they are needed: see serve_apps/llm/app.py.

import asyncio
import json
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_apps.embeddings.args import EmbeddingsArgs
from serve_apps.replica import API_MAX_ONGOING_REQUESTS, HEALTH_CHECK_PERIOD_S, ApiReplica, log_with_ray

# How long a request waits for others to share its batch.
_BATCH_WAIT_S = 0.005

_Texts = list[list[int]]
_Vectors = list[list[float]]


def build_app(args: EmbeddingsArgs) -> Application:
    """The application that `args` describe; Ray Serve calls this with the `args` of its config."""
    admitted = args.max_batch + args.max_queue
    engine = EngineDeployment.options(max_ongoing_requests=admitted, max_queued_requests=admitted)
    return ApiDeployment.bind(args, engine.bind(args))


@serve.deployment(name="Engine", health_check_period_s=HEALTH_CHECK_PERIOD_S)
class EngineDeployment:
    """A replica with a model. Ready when the model is compiled."""

    async def __init__(self, args: EmbeddingsArgs) -> None:
        log_with_ray()
        from serve_apps.embeddings.encoder import build_encoder

        self._encoder = await asyncio.to_thread(build_encoder, args)
        encode: Any = self.encode  # the decorator gives it this method, unknown to type checkers
        encode.set_max_batch_size(args.max_batch)

    # What counts is the requests, because one alone may have more texts than a batch; the encoder cuts.
    @serve.batch(batch_wait_timeout_s=_BATCH_WAIT_S)
    async def encode(self, requests: list[_Texts]) -> list[_Vectors]:
        """Vectors for the texts of several requests, which are computed together."""
        texts = [text for request in requests for text in request]
        vectors = iter(await asyncio.to_thread(self._encoder.encode, texts))
        return [[next(vectors) for _ in request] for request in requests]


@serve.deployment(name="Api", max_ongoing_requests=API_MAX_ONGOING_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class ApiDeployment(ApiReplica):
    """The API of the embedding model: a tokenizer, and the engines behind it."""

    async def __init__(self, args: EmbeddingsArgs, engine: DeploymentHandle[Any]) -> None:
        log_with_ray()
        from serve_apps.auth import ApiKeys
        from serve_apps.embeddings.api import create_api
        from serve_apps.embeddings.tokens import Tokens
        from serve_apps.models import resolve_tokenizer
        from serve_apps.replica_calls import call_engine

        keys = ApiKeys.required_by(args.auth)
        model_dir = await asyncio.to_thread(resolve_tokenizer, args.model)
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))

        async def encode(texts: _Texts) -> _Vectors:
            return await call_engine(engine.encode, texts, timeout_s=args.request_timeout_s)

        self.api = create_api(
            served_name=args.served_name,
            tokens=Tokens(model_dir, args.max_input_tokens),
            dimensions=config["hidden_size"],
            encode=encode,
            keys=keys,
            release=self.release,
            # Serve's proxy does, and gives the app the id as a header of the request.
            answers_carry_id=False,
        )
