"""What one key may ask for in a minute."""

from __future__ import annotations

import pytest

from infra.service_config import LlmService
from serve_apps.budgets import Budgets
from serve_apps.errors import ApiError
from tests.unit.plans import CPU, plan

A, B = b"a", b"b"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budgets(clock: Clock, **limits: float) -> Budgets:
    made = Budgets(clock)
    made.configure(limits)
    return made


def refusal(of: Budgets, key: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        of.admit(key)
    return caught.value


def test_a_minutes_requests_may_come_at_once_and_then_one_by_one(clock: Clock) -> None:
    limited = budgets(clock, requests=3)
    for _ in range(3):
        limited.admit(A)
    error = refusal(limited, A)
    assert (error.status, error.error.type, error.headers["Retry-After"]) == (429, "requests", "20")
    clock.now_s = 20
    limited.admit(A)
    assert refusal(limited, A).status == 429


def test_keys_do_not_share_a_budget(clock: Clock) -> None:
    limited = budgets(clock, requests=1)
    limited.admit(A)
    limited.admit(B)
    assert refusal(limited, A).status == 429


def test_a_debt_of_tokens_is_paid_before_the_next_request(clock: Clock) -> None:
    limited = budgets(clock, tokens=60)
    limited.admit(A)
    limited.charge(A, 90)
    error = refusal(limited, A)
    assert (error.error.type, error.headers["Retry-After"]) == ("tokens", "30")
    clock.now_s = 30
    limited.admit(A)


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    limited = budgets(clock, requests=1, tokens=60)
    limited.admit(A)
    for _ in range(5):
        refusal(limited, A)
    clock.now_s = 60
    limited.admit(A)


def test_time_without_requests_saves_up_no_more_than_a_minute(clock: Clock) -> None:
    limited = budgets(clock, requests=2)
    limited.admit(A)
    clock.now_s = 86_400
    limited.admit(A)
    limited.admit(A)
    assert refusal(limited, A).status == 429


def test_over_an_hour_a_key_gets_its_share_and_no_more(clock: Clock) -> None:
    limited, spent = budgets(clock, tokens=600), 0
    while clock.now_s < 3600:
        try:
            limited.admit(A)
        except ApiError as error:
            clock.now_s += float(error.headers["Retry-After"])
            continue
        limited.charge(A, 173)
        spent += 173
    assert 600 * 59 <= spent <= 600 * 61 + 173


def test_without_limits_everybody_may_ask(clock: Clock) -> None:
    limited = budgets(clock)
    for _ in range(1000):
        limited.admit(A)
        limited.charge(A, 10**9)


def test_a_new_limit_holds_at_once_and_the_same_one_forgets_nothing(clock: Clock) -> None:
    limited = budgets(clock, requests=1)
    limited.admit(A)
    limited.configure({"requests": 1})
    refusal(limited, A)
    limited.configure({"requests": 2})
    limited.admit(A)


def test_replicas_of_the_api_share_the_stacks_limits() -> None:
    limits = {"requestsPerMinute": 5, "tokensPerMinute": 1000}
    keyed = {"auth": "api-keys", "limits": limits}
    for workers, share in ((1, (5, 1000)), (3, (2.5, 500))):
        bounds = {"min": workers, "max": workers}
        made = plan(CPU, **keyed, replicas=bounds, worker={"cpus": 3, "memoryGib": 4}, cpusPerReplica=2)
        api = made.application["deployments"][0]
        assert api["num_replicas"] == min(2, workers)
        assert api["user_config"]["limits"] == {"requests": share[0], "tokens": share[1]}
        assert api["user_config"]["release"] == made.release


def test_limits_without_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="no effect with auth 'none'"):
        LlmService.model_validate(CPU | {"limits": {"tokensPerMinute": 5}})
