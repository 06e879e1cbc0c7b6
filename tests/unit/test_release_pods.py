"""Which pods a release check waits for, and which it gives up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.release_world import KUBERNETES, World, run

NEVER = {"timeout_s": 1.5}


def container(name: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": 0, "state": state, **more}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(seconds: int = 5, code: int = 1, **more: Any) -> dict[str, Any]:
    ended = f"2026-11-28T10:{seconds // 60:02}:{seconds % 60:02}Z"
    times = {"startedAt": "2026-11-28T10:00:00Z", "finishedAt": ended}
    return {"terminated": {"exitCode": code, "reason": "Error", **times, **more}}


def pod(
    name: str,
    *statuses: dict[str, Any],
    group: str = "headgroup",
    cluster: str = "chat-abcde",
    **status: Any,
) -> dict[str, Any]:
    labels = {"ray.io/cluster": cluster, "ray.io/group": group}
    metadata = {"name": name, "uid": f"uid-{name}", "labels": labels, "resourceVersion": "2"}
    return {"metadata": metadata, "status": {"containerStatuses": list(statuses), **status}}


def event(kind: str, of: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": of}


def starting() -> World:
    """A Ray head that does not answer yet."""
    world = World()
    world.application = None
    return world


def missing_volume(first: str, last: str, message: str) -> dict[str, Any]:
    return {
        "involvedObject": {"name": "head"},
        "reason": "FailedMount",
        "firstTimestamp": first,
        "lastTimestamp": last,
        "message": message,
    }


def test_a_missing_node_is_waited_for_and_named() -> None:
    world = starting()
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient aws.amazon.com/neuron",
    }
    world.pods = [pod("worker-1", conditions=[condition], group="workers")]
    result = run(world, NEVER)
    assert "not ready after" in result.last_words
    assert "pod worker-1 cannot be scheduled: 0/3 nodes are available" in result.last_words


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", 'failed to resolve reference "i:1": docker.io/library/i:1: not found'),
        ("ImagePullBackOff", 'Back-off pulling image "i:1": pull access denied, repository does not exist'),
        ("InvalidImageName", "couldn't parse image name"),
        ("ErrImageNeverPull", "Container image is not present with pull policy of Never"),
        ("CreateContainerConfigError", 'secret "api-keys" not found'),
    ],
)
def test_what_does_not_exist_is_not_waited_for(reason: str, message: str) -> None:
    world = starting()
    world.pods = [pod("head", container("ray-head", waiting(reason, message)))]
    result = run(world)
    assert result.code == 1
    assert f"pod head, container ray-head: {reason}: {message}; " in result.last_words
    assert "not ready" not in result.last_words


def test_a_container_that_prepares_a_pod_counts_as_well() -> None:
    world = starting()
    first = container("wait-gcs-ready", waiting("ErrImagePull", "i:1: not found"))
    prepared = container("ray-worker", waiting("PodInitializing"))
    world.pods = [pod("worker", prepared, initContainerStatuses=[first], group="workers")]
    assert "pod worker, container wait-gcs-ready: ErrImagePull" in run(world).last_words


def test_an_image_that_comes_after_all_is_used() -> None:
    world = World()
    world.health = (200, {"release": "r1"})
    world.pods = [pod("head", container("ray-head", waiting("ErrImagePull", "i:1: not found")))]
    polls = iter(range(100))

    def heal() -> None:
        if next(polls) == 2:
            world.pod_events = [event("MODIFIED", pod("head", container("ray-head", {"running": {}})))]
        if next(polls) > 20:
            world.health = (200, {"release": "r2"})

    world.on_poll = heal
    result = run(world, SURE_AFTER_S="0.4")
    assert result.code == 0, result.printed


@pytest.mark.parametrize(
    "message",
    [
        'failed to resolve reference "i:1": dial tcp: lookup registry: i/o timeout',
        "unexpected status: 503 Service Unavailable",
        "toomanyrequests: You have reached your pull rate limit",
    ],
)
def test_a_registry_that_does_not_answer_is_waited_for(message: str) -> None:
    world = starting()
    world.pods = [pod("head", container("ray-head", waiting("ImagePullBackOff", message)))]
    result = run(world, NEVER)
    assert "not ready after" in result.last_words
    assert message in result.last_words


def test_one_pod_that_crashes_again_and_again_is_given_up() -> None:
    world = starting()
    loop = waiting("CrashLoopBackOff", "back-off 1m20s restarting failed container")
    world.logs["head"] = "starting\nImportError: no module named ray\n\n"
    status = container("ray-head", loop, restartCount=4, lastState=terminated())
    world.pods = [pod("head", status)]
    result = run(world)
    assert result.last_words == (
        "chat release r2: pod head, container ray-head: crashed 5 times (Error, exit code 1): "
        "ImportError: no module named ray"
    )


def test_pods_that_crash_in_turn_are_given_up() -> None:
    """What KubeRay does with `restartPolicy: Never`: each is gone before the next poll."""
    world = starting()
    crashed = [pod(f"head-{n}", container("ray-head", terminated(message=f"line {n}"))) for n in range(5)]
    world.pod_events = [event(kind, each) for each in crashed for kind in ("ADDED", "MODIFIED", "DELETED")]
    result = run(world)
    assert "pod head-4, container ray-head: crashed 5 times (Error, exit code 1): line 4" in result.last_words


@pytest.mark.parametrize(
    "crashed",
    [
        # Fewer than five.
        [pod(f"head-{n}", container("ray-head", terminated())) for n in range(4)],
        # It did run, and it ended as it was told to.
        [pod(f"head-{n}", container("ray-head", terminated(seconds=900))) for n in range(9)],
        [pod(f"head-{n}", container("ray-head", terminated(code=0))) for n in range(9)],
        # Of another Ray cluster.
        [pod(f"head-{n}", container("ray-head", terminated()), cluster="chat-older") for n in range(9)],
    ],
    ids=["four", "ran well", "no error", "another cluster"],
)
def test_other_ends_of_a_pod_are_waited_through(crashed: list[dict[str, Any]]) -> None:
    world = starting()
    world.pod_events = [event(kind, each) for each in crashed for kind in ("MODIFIED", "DELETED")]
    assert "not ready after" in run(world, NEVER).last_words


def test_pods_that_are_deleted_did_not_crash() -> None:
    world = starting()
    for n in range(9):
        gone = pod(f"worker-{n}", container("ray-worker", terminated(code=137)), group="workers")
        gone["metadata"]["deletionTimestamp"] = "2026-11-28T10:00:00Z"
        world.pod_events += [event("MODIFIED", gone), event("DELETED", gone)]
    assert "not ready after" in run(world, NEVER).last_words


def test_many_workers_that_lose_their_head_once_are_not_given_up() -> None:
    world = starting()
    workers = [f"worker-{n}" for n in range(6)]
    running, ended = container("ray-worker", {"running": {}}), container("ray-worker", terminated())
    world.pods = [pod(name, running, group="workers") for name in workers]
    world.pod_events = [event("MODIFIED", pod(name, ended, group="workers")) for name in workers]
    assert "not ready after" in run(world, NEVER).last_words


def test_crashes_have_a_minute_to_be_over() -> None:
    world = starting()
    crashed = [pod(f"head-{n}", container("ray-head", terminated())) for n in range(5)]
    world.pod_events = [event(kind, each) for each in crashed for kind in ("MODIFIED", "DELETED")]
    result = run(world, NEVER, SURE_AFTER_S="60")
    assert "not ready after" in result.last_words
    assert "crashed 5 times" in result.last_words


def test_a_log_that_may_not_be_read_hides_nothing_else() -> None:
    world = starting()
    world.forbidden = {f"{KUBERNETES}/pods/head/log"}
    world.pods = [pod("head", container("ray-head", terminated(), restartCount=4))]
    words = run(world).last_words
    assert "crashed 5 times (Error, exit code 1): its log cannot be read: HTTP 403" in words


def test_memory_that_ran_out_is_told_in_place_of_a_log() -> None:
    world = starting()
    world.logs["head"] = "a line of no importance"
    killed = terminated(code=137, reason="OOMKilled")
    world.pods = [pod("head", container("ray-head", killed, restartCount=4))]
    assert run(world).last_words.endswith(
        "crashed 5 times (OOMKilled, exit code 137): it needs more memory than its limit; raise the limit"
    )


def test_a_volume_without_its_secret_is_not_waited_for() -> None:
    world = starting()
    world.pods = [pod("head", container("ray-head", waiting("ContainerCreating")))]
    message = 'MountVolume.SetUp failed for volume "api-keys" : secret "api-keys" not found'
    world.events = [missing_volume("2026-11-28T10:00:00Z", "2026-11-28T10:01:04Z", message)]
    words = run(world).last_words
    assert words.startswith(f"chat release r2: pod head: FailedMount: {message}; create what is missing")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("2026-11-28T10:00:30Z", 'secret "api-keys" not found'),
        ("2026-11-28T10:09:00Z", "Unable to attach or mount volumes: timed out"),
    ],
)
def test_a_volume_that_may_still_come_is_waited_for(last: str, message: str) -> None:
    world = starting()
    world.pods = [pod("head", container("ray-head", waiting("ContainerCreating")))]
    world.events = [missing_volume("2026-11-28T10:00:00Z", last, message)]
    assert "not ready after" in run(world, NEVER, SURE_AFTER_S="60").last_words


def test_a_watch_that_ends_begins_anew() -> None:
    world = starting()
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
    world.pod_events = [gone]
    status = container("ray-head", terminated(message="no disk"), restartCount=4)
    polls = iter(range(100))
    world.on_poll = lambda: setattr(world, "pods", [pod("head", status)]) if next(polls) == 1 else None
    assert "crashed 5 times (Error, exit code 1): no disk" in run(world).last_words
