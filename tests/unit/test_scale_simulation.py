"""The three loops of a growing service agree with each other."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest

from benchmarks.scale_simulation import Sample, Service, Times, ramp, row, service, simulate

TIMES = Times(node_s=300, model_load_s=60, request_s=10.0)


@cache
def of(replicas: int, slots: int = 8) -> Service:
    made = service(
        replicas, instance_type="inf2.24xlarge", tensor_parallel=4, slots=slots, region="us-west-2"
    )
    assert made.replicas_per_node == 3  # of twelve NeuronCores
    return made


def constant(made: Service, requests_in_flight: float, seconds: int = 3000) -> list[Sample]:
    return simulate(made, TIMES, lambda _: requests_in_flight / TIMES.request_s, seconds)


@pytest.mark.parametrize("slots", [2, 8, 32])
@pytest.mark.parametrize("full_replicas", [1.0, 3.0, 7.5])
def test_the_target_is_the_load_over_four_fifths_of_the_slots(slots: int, full_replicas: float) -> None:
    in_flight = full_replicas * slots
    last = constant(of(20, slots), in_flight)[-1]
    assert last.in_slots == pytest.approx(in_flight, rel=0.01)
    assert last.target == math.ceil(in_flight / (0.8 * slots))
    assert last.ready == last.target
    assert last.nodes == math.ceil(last.target / 3)


@pytest.mark.parametrize("in_flight", [1.0, 6.4, 19.9, 60.0, 128.0])
def test_a_constant_load_makes_no_waves(in_flight: float) -> None:
    settled = constant(of(20), in_flight)[2000:]
    assert len({(one.target, one.ready, one.nodes) for one in settled}) == 1
    assert all(one.waiting == 0 and one.refused == 0 for one in settled)


def test_no_loop_goes_beyond_what_it_was_given() -> None:
    samples = constant(of(5), 1000.0)
    assert max(one.target for one in samples) == 5
    assert max(one.nodes for one in samples) == 2
    for one in samples:
        assert 1 <= one.ready <= max(one.target, 1)
        assert one.ready <= one.nodes * 3
        assert one.in_slots <= one.ready * 8
        assert one.in_slots + one.waiting <= one.ready * (8 + 64) + 1e-6


def test_more_replicas_come_after_delay_node_and_model_load_and_not_before() -> None:
    samples = constant(of(10), 60.0)
    first = next(second for second, one in enumerate(samples) if one.ready > 3)
    assert 30 + TIMES.node_s + TIMES.model_load_s <= first <= 90 + TIMES.node_s + TIMES.model_load_s


def test_a_node_that_is_there_saves_the_wait_for_one() -> None:
    samples = constant(of(3), 20.0)
    second = next(second for second, one in enumerate(samples) if one.ready == 3)
    assert second < TIMES.node_s


def test_every_request_is_answered_refused_or_still_there() -> None:
    made = of(5)
    curve = ramp(made, TIMES, share=2.0, ramp_s=300, plateau_s=600)
    samples = simulate(made, TIMES, curve, 2500)
    arrived = sum(curve(second) for second in range(2500))
    answered = sum(one.in_slots for one in samples) / TIMES.request_s
    refused = sum(one.refused for one in samples)
    there = samples[-1].in_slots * (1 - 1 / TIMES.request_s) + samples[-1].waiting
    assert refused > 0
    assert arrived == pytest.approx(answered + refused + there)


def test_a_service_shrinks_after_its_delay_and_its_nodes_after_theirs() -> None:
    made = of(20)
    curve = ramp(made, TIMES, share=0.7, ramp_s=0, plateau_s=1500)
    samples = simulate(made, TIMES, curve, 4500)
    high = samples[1499]
    smaller = next(second for second in range(1500, 4500) if samples[second].target < high.target)
    fewer = next(second for second in range(1500, 4500) if samples[second].nodes < high.nodes)
    assert smaller - 1500 >= made.autoscaling.downscale_delay_s
    assert fewer - smaller >= made.idle_timeout_s
    assert (samples[-1].target, samples[-1].ready, samples[-1].nodes) == (1, 1, 1)


def test_a_row_of_the_table_says_what_was_paid() -> None:
    made = replace(of(1), dollars_an_hour=7.0)
    samples = constant(made, 4.0, seconds=3600)
    cells = [cell.strip() for cell in row(made, TIMES, samples).strip("|").split("|")]
    assert cells == ["1", "1", "0", "0", "0.0%", "1.0", "7", "6.0"]
