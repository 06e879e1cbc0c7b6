"""How long more load waits for more replicas, and what it costs, from 1 to 1,000 replicas.

    python -m benchmarks.scale_simulation --model-load 600 --ramp 0

Three loops act on each other, second by second: Ray Serve's autoscaling (Ray's own functions, with the
numbers of this project's serve config), Ray's autoscaler, which asks for workers, and Karpenter, which starts
a node for each. Requests are a fluid: so many arrive a second, and a busy slot ends one each
`--seconds-a-request`. EC2 always has the nodes, as it does not in life. docs/scale.md explains the defaults.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.serve.autoscaling_policy import (
    _apply_delay_logic,  # pyright: ignore[reportPrivateUsage]
    _apply_scaling_factors,  # pyright: ignore[reportPrivateUsage]
)
from ray.serve.config import AutoscalingConfig

from infra.prices import prices_of
from infra.service_config import LlmService
from workloads.placement import place
from workloads.ray_cluster import SecretNames, ray_cluster
from workloads.serve_config import ENGINE_DEPLOYMENT, serve_config

REPLICAS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_HOUR_S = 3600
# AUTOSCALER_UPDATE_INTERVAL_S in ray/autoscaler/_private/constants.py of Ray 2.60.
_RAY_AUTOSCALER_PERIOD_S = 5
# --batch-max-duration in pkg/operator/options/options.go of Karpenter.
_KARPENTER_BATCH_S = 10

Curve = Callable[[int], float]
"""Requests a second that arrive, by the second of the simulation."""


@dataclass(frozen=True)
class Service:
    """What a stack file's service comes to."""

    autoscaling: AutoscalingConfig
    slots: int
    max_queue: int
    replicas_per_node: int
    idle_timeout_s: int
    dollars_an_hour: float


@dataclass(frozen=True)
class Times:
    """Seconds: of a node from its request to a Ray worker on it, of a model load, and of a request."""

    node_s: int
    model_load_s: int
    request_s: float


@dataclass(frozen=True)
class Sample:
    """The state after one second. `waiting` and `refused` count requests, the latter of this second."""

    target: int
    ready: int
    nodes: int
    in_slots: float
    waiting: float
    refused: float


@dataclass
class _State:
    target: int
    nodes: int
    ready: int
    requests: float = 0.0
    # When nodes and models that are on their way are there.
    nodes_due_s: list[int] = field(default_factory=list[int])
    models_due_s: list[int] = field(default_factory=list[int])
    too_many_nodes_since_s: int | None = None
    policy: dict[str, Any] = field(default_factory=dict[str, Any])


def service(replicas: int, *, instance_type: str, tensor_parallel: int, slots: int, region: str) -> Service:
    """A service of one to `replicas` replicas, as the project would deploy it."""
    said = LlmService.model_validate(
        {
            "app": "llm",
            "model": "mistralai/Mistral-7B-Instruct-v0.2",
            "accelerator": "neuron",
            "image": "simulated:1",
            "instanceType": instance_type,
            "tensorParallel": tensor_parallel,
            "slots": slots,
            "replicas": {"min": 1, "max": max(2, replicas)},
        }
    )
    placement = place("simulated", said)
    (engine,) = [
        one
        for one in serve_config("simulated", said, placement)["applications"][0]["deployments"]
        if one["name"] == ENGINE_DEPLOYMENT
    ]
    cluster = ray_cluster("simulated", said, placement, SecretNames("ray-auth"))
    bounds = engine["autoscaling_config"] | {"max_replicas": replicas}
    return Service(
        autoscaling=AutoscalingConfig(**bounds),
        slots=slots,
        max_queue=said.max_queue,
        replicas_per_node=placement.replicas_per_worker,
        idle_timeout_s=cluster.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0),
        dollars_an_hour=prices_of(region, {}).get(instance_type, math.nan),
    )


def simulate(of: Service, times: Times, curve: Curve, seconds: int) -> list[Sample]:
    """One sample a second, from a service at its least that has been idle."""
    least = of.autoscaling.min_replicas
    state = _State(least, _nodes_for(least, of), least)
    seen: deque[float] = deque(maxlen=round(of.autoscaling.look_back_period_s))
    samples: list[Sample] = []
    for now_s in range(seconds):
        in_slots, waiting, refused = _serve(state, of, times, curve(now_s))
        seen.append(in_slots + waiting)
        _serve_autoscaling(state, of, sum(seen) / len(seen), now_s)
        if now_s % _RAY_AUTOSCALER_PERIOD_S == 0:
            _ray_autoscaler(state, of, times, now_s)
        _arrivals(state, of, times, now_s)
        samples.append(Sample(state.target, state.ready, _paid(state), in_slots, waiting, refused))
    return samples


def _serve(state: _State, of: Service, times: Times, arriving: float) -> tuple[float, float, float]:
    """Requests in slots, those that wait, and those that were refused because every queue is full."""
    room = state.ready * (of.slots + of.max_queue)
    asked = state.requests + arriving
    state.requests = min(asked, room)
    refused = asked - state.requests
    in_slots = min(state.requests, state.ready * of.slots)
    waiting = state.requests - in_slots
    state.requests -= in_slots / times.request_s
    return in_slots, waiting, refused


def _serve_autoscaling(state: _State, of: Service, ongoing: float, now_s: int) -> None:
    """Replicas that Serve wants: as many as bring their requests to the target."""
    config = of.autoscaling
    wanted = ongoing / config.get_target_ongoing_requests()
    desired = _apply_scaling_factors(wanted, state.ready, config)
    bounded = min(config.max_replicas, max(config.min_replicas, desired))
    state.target, state.policy = _apply_delay_logic(bounded, state.target, config, state.policy, now_s)
    if state.target < state.ready + len(state.models_due_s):
        # Those that load are given up first.
        del state.models_due_s[max(0, state.target - state.ready) :]
        state.ready = min(state.ready, state.target)


def _ray_autoscaler(state: _State, of: Service, times: Times, now_s: int) -> None:
    """Ask for the nodes that replicas lack; give up those that had none for the idle time."""
    needed = _nodes_for(state.target, of)
    missing = needed - state.nodes - len(state.nodes_due_s)
    state.nodes_due_s += [now_s + _KARPENTER_BATCH_S + times.node_s] * max(0, missing)
    if missing >= 0:
        state.too_many_nodes_since_s = None
    elif state.too_many_nodes_since_s is None:
        state.too_many_nodes_since_s = now_s
    elif now_s - state.too_many_nodes_since_s >= of.idle_timeout_s:
        state.nodes = max(needed, state.nodes + missing)


def _arrivals(state: _State, of: Service, times: Times, now_s: int) -> None:
    """Nodes that are there, models that begin to load on them, and models that have loaded."""
    state.nodes += sum(due <= now_s for due in state.nodes_due_s)
    state.nodes_due_s = [due for due in state.nodes_due_s if due > now_s]
    state.ready += sum(due <= now_s for due in state.models_due_s)
    state.models_due_s = [due for due in state.models_due_s if due > now_s]
    placed = min(state.target, state.nodes * of.replicas_per_node)
    begun = placed - state.ready - len(state.models_due_s)
    state.models_due_s += [now_s + times.model_load_s] * max(0, begun)


def _nodes_for(replicas: int, of: Service) -> int:
    # Serve packs replicas and takes them first from the nodes with the fewest.
    return math.ceil(replicas / of.replicas_per_node)


def _paid(state: _State) -> int:
    return state.nodes + len(state.nodes_due_s)


def ramp(of: Service, times: Times, *, share: float, ramp_s: int, plateau_s: int) -> Curve:
    """From one replica's half to `share` of all slots in `ramp_s`, for `plateau_s`, and back at once."""
    full = of.autoscaling.max_replicas * of.slots / times.request_s
    low = 0.5 * of.slots / times.request_s * of.autoscaling.min_replicas
    high = max(low, share * full)

    def rate(second: int) -> float:
        if second >= ramp_s + plateau_s:
            return low
        return high if second >= ramp_s else low + (high - low) * second / ramp_s

    return rate


def row(of: Service, times: Times, samples: Sequence[Sample]) -> str:
    """A line of the table."""
    behind = [second for second, one in enumerate(samples) if one.waiting > 0.5 or one.refused > 0]
    longest_s = max(
        (one.waiting * times.request_s / one.in_slots for one in samples if one.in_slots), default=0.0
    )
    refused = sum(one.refused for one in samples)
    answered = sum(one.in_slots for one in samples) / times.request_s
    node_hours = sum(one.nodes for one in samples) / _HOUR_S
    used = sum(one.in_slots for one in samples) / (of.slots * of.replicas_per_node) / _HOUR_S
    gone_min = (behind[-1] + 1) / 60 if behind else 0.0
    cells = (
        f"{of.autoscaling.max_replicas}",
        f"{max(one.nodes for one in samples)}",
        f"{gone_min:.0f}",
        f"{longest_s:.0f}",
        f"{refused / (refused + answered):.1%}",
        f"{node_hours:.1f}",
        f"{node_hours * of.dollars_an_hour:.0f}",
        f"{node_hours / used:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a table for docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--instance-type", default="inf2.24xlarge", help="of the nodes (inf2.24xlarge)")
    parser.add_argument("--tensor-parallel", type=int, default=4, help="NeuronCores of a replica (4)")
    parser.add_argument("--slots", type=int, default=8, help="slots of a replica (8)")
    parser.add_argument("--region", default="us-west-2", help="whose list prices hold (us-west-2)")
    parser.add_argument("--node", type=int, default=560, help="seconds until a new node has a worker (560)")
    parser.add_argument("--model-load", type=int, default=40, help="seconds of a model load (40)")
    parser.add_argument("--seconds-a-request", type=float, default=15, help="time in a slot (15)")
    parser.add_argument("--ramp", type=int, default=1800, help="seconds in which the load grows (1800)")
    parser.add_argument("--plateau", type=int, default=3600, help="seconds for which it stays (3600)")
    parser.add_argument("--share", type=float, default=0.7, help="of all slots that it takes then (0.7)")
    given = parser.parse_args()
    times = Times(given.node, given.model_load, given.seconds_a_request)
    print(
        "| replicas at most | nodes | queue gone after, min | longest wait, s | refused | node hours | USD "
        "| paid over used |\n|---|---|---|---|---|---|---|---|"
    )
    for count in REPLICAS:
        of = service(
            count,
            instance_type=given.instance_type,
            tensor_parallel=given.tensor_parallel,
            slots=given.slots,
            region=given.region,
        )
        curve = ramp(of, times, share=given.share, ramp_s=given.ramp, plateau_s=given.plateau)
        samples = simulate(of, times, curve, given.ramp + given.plateau + _HOUR_S)
        print(row(of, times, samples), flush=True)


if __name__ == "__main__":
    main()
