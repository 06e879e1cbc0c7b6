"""What the API makes of engines that die, over a handle that plays a script instead of Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError

from serve_apps.errors import ApiError
from serve_apps.llm.engine import Alive, Event, Failed, Finished, GenerationRequest, TextDelta
from serve_apps.llm.engine_client import EngineClient

REQUEST = GenerationRequest("r", (1, 2), 4)
WHOLE: tuple[Event, ...] = (TextDelta("Paris", 1), Finished("stop", 2, 2))
DIES: tuple[Event | Exception, ...] = (TextDelta("Par", 1), ActorDiedError())
DIES_AT_ONCE = (ActorDiedError(),)
SILENCE_S = 0.2


@dataclass(frozen=True)
class Silence:
    """A step of a script: nothing is heard for so long."""

    seconds: float


FOR_EVER = Silence(60)
NOT_FOR_LONG = Silence(0.6 * SILENCE_S)
Script = Sequence[Event | Alive | Silence | Exception]


class ScriptedResponse:
    """What a call of a handle returns: a stream that can be cancelled."""

    def __init__(self, script: Script) -> None:
        self._steps = self._play(script)
        self.cancelled = False

    def __anext__(self) -> Any:
        return self._steps.__anext__()

    def cancel(self) -> None:
        self.cancelled = True

    async def _play(self, script: Script) -> AsyncGenerator[Event | Alive, None]:
        for step in script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Silence):
                await asyncio.sleep(step.seconds)
            else:
                yield step


class ScriptedHandle:
    """Every call plays the next script."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.responses: list[ScriptedResponse] = []
        self.generate = self

    def options(self, **_: Any) -> ScriptedHandle:
        return self

    def remote(self, request: GenerationRequest) -> ScriptedResponse:
        assert request == REQUEST
        self.responses.append(ScriptedResponse(self.scripts.pop(0)))
        return self.responses[-1]


async def read(handle: ScriptedHandle, *, streamed: bool, timeout_s: float = 10) -> list[Event]:
    client = EngineClient(handle, timeout_s, silence_s=SILENCE_S)  # pyright: ignore[reportArgumentType]
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


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("heard", [(), (Alive(),)])
async def test_an_engine_that_falls_silent_is_left(heard: Any, streamed: bool) -> None:
    silent = (*heard, FOR_EVER)
    handle = ScriptedHandle(silent, silent, silent, silent, WHOLE)
    assert await read(handle, streamed=streamed) == list(WHOLE)
    assert [response.cancelled for response in handle.responses] == [True] * 4 + [False]


async def test_a_whole_answer_that_stops_coming_is_computed_again() -> None:
    assert await read(ScriptedHandle((WHOLE[0], FOR_EVER), WHOLE), streamed=False) == list(WHOLE)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_that_is_whole_is_given_even_if_the_call_never_ends(streamed: bool) -> None:
    handle = ScriptedHandle((*WHOLE, FOR_EVER), WHOLE)
    assert await read(handle, streamed=streamed) == list(WHOLE)
    assert [response.cancelled for response in handle.responses] == [True]


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_engine_that_takes_its_time_is_waited_for(streamed: bool) -> None:
    patient = (NOT_FOR_LONG, *(Alive(), NOT_FOR_LONG) * 4, *WHOLE)
    assert await read(ScriptedHandle(patient), streamed=streamed) == list(WHOLE)


async def test_a_stream_that_has_begun_waits_out_a_silence() -> None:
    handle = ScriptedHandle((WHOLE[0], Silence(3 * SILENCE_S), WHOLE[1]))
    assert await read(handle, streamed=True) == list(WHOLE)


async def test_silence_ends_with_the_time_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.llm.engine_client._TIMEOUT_GRACE_S", 0)
    handle = ScriptedHandle(*[(FOR_EVER,)] * 9)
    with pytest.raises(ApiError, match=r"No engine answered within 0\.5 s"):
        await read(handle, streamed=True, timeout_s=0.5)
    assert [response.cancelled for response in handle.responses] == [True] * 3


@pytest.mark.parametrize(
    "refusal", [Failed("engine_error", "the step failed"), Failed("queue_full", "full", 2.0)]
)
async def test_an_engines_own_answer_is_not_asked_for_again(refusal: Failed) -> None:
    assert await read(ScriptedHandle((refusal,), WHOLE), streamed=False) == [refusal]


async def test_back_pressure_says_when_to_come_back() -> None:
    with pytest.raises(ApiError) as refused:
        await read(ScriptedHandle((BackPressureError(9, 8, 503, 1),), WHOLE), streamed=False)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
