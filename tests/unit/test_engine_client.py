"""What the API makes of engines that die, over a handle that plays a script instead of Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError

from serve_apps.errors import ApiError
from serve_apps.llm.engine import Event, Failed, Finished, GenerationRequest, TextDelta
from serve_apps.llm.engine_client import EngineClient

REQUEST = GenerationRequest("r", (1, 2), 4)
WHOLE: tuple[Event, ...] = (TextDelta("Paris", 1), Finished("stop", 2, 2))
DIES: tuple[Event | Exception, ...] = (TextDelta("Par", 1), ActorDiedError())
DIES_AT_ONCE = (ActorDiedError(),)


class ScriptedHandle:
    """Every call plays the next script."""

    def __init__(self, *scripts: Sequence[Event | Exception]) -> None:
        self.scripts = list(scripts)
        self.generate = self

    def options(self, **_: Any) -> ScriptedHandle:
        return self

    def remote(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        assert request == REQUEST
        return self._play(self.scripts.pop(0))

    async def _play(self, script: Sequence[Event | Exception]) -> AsyncGenerator[Event, None]:
        for step in script:
            if isinstance(step, Exception):
                raise step
            yield step


async def read(handle: ScriptedHandle, *, streamed: bool) -> list[Event]:
    client = EngineClient(handle, 10)  # pyright: ignore[reportArgumentType]
    return [event async for event in client.generate(REQUEST, streamed=streamed)]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("lost", [DIES_AT_ONCE, (Failed("engine_gone", "closing"),), ()])
async def test_what_has_not_begun_goes_to_another_engine(lost: Any, streamed: bool) -> None:
    assert await read(ScriptedHandle(lost, lost, WHOLE), streamed=streamed) == list(WHOLE)


async def test_a_whole_answer_is_computed_again_from_its_beginning() -> None:
    assert await read(ScriptedHandle(DIES, WHOLE), streamed=False) == list(WHOLE)


async def test_a_stream_that_has_begun_ends_with_an_error() -> None:
    handle = ScriptedHandle(DIES, WHOLE)
    with pytest.raises(ApiError, match="being replaced") as lost:
        await read(handle, streamed=True)
    assert lost.value.status == 503
    assert lost.value.headers == {"Retry-After": "1"}
    assert len(handle.scripts) == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_request_that_kills_engines_kills_three_at_most(streamed: bool) -> None:
    handle = ScriptedHandle(*[DIES_AT_ONCE] * 9)
    with pytest.raises(ApiError, match="being replaced"):
        await read(handle, streamed=streamed)
    assert len(handle.scripts) == 6


@pytest.mark.parametrize(
    "refusal", [Failed("engine_error", "the step failed"), Failed("queue_full", "full", 2.0)]
)
async def test_an_engines_own_answer_is_not_asked_for_again(refusal: Failed) -> None:
    assert await read(ScriptedHandle((refusal,), WHOLE), streamed=False) == [refusal]


async def test_back_pressure_says_when_to_come_back() -> None:
    with pytest.raises(ApiError) as refused:
        await read(ScriptedHandle((BackPressureError(9, 8, 503, 1),), WHOLE), streamed=False)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
