"""What the text and the Markdown report say in the same words."""

from __future__ import annotations

from collections.abc import Iterator

from offline.diff.comparison import Changed
from offline.diff.figures import Figures, rise
from offline.diff.ray import Rollout
from offline.diff.report import StackReport

_ACTIONS = {
    "update": "updated in place",
    "unknown": "effect unknown",
    "state only": "only the state changes",
    "none": "nothing happens",
}
_ORDERS = {
    True: "the old one is deleted before the new one is created",
    False: "the new one is created before the old one is deleted",
    None: "in an order that is not known",
}


def summary(stack: StackReport) -> str:
    """One line: how much changes, and what it means."""
    comparison = stack.comparison
    if stack.quiet:
        return "no change"
    counts = [
        (len(comparison.added), "added"),
        (len(comparison.changed), "changed"),
        (len(comparison.removed), "removed"),
    ]
    parts = [", ".join(f"{count} {word}" for count, word in counts if count) or "no resource changes"]
    for number, singular, plural in (
        (len(comparison.with_action("replace")), "replaced", "replaced"),
        (len(comparison.with_action("unknown")), "with unknown effect", "with unknown effect"),
        (len(comparison.new_clusters), "new Ray cluster", "new Ray clusters"),
        (len(stack.new_violations), "new policy violation", "new policy violations"),
        (len(stack.fixed_violations), "policy violation fixed", "policy violations fixed"),
    ):
        if number:
            parts.append(f"{number} {singular if number == 1 else plural}")
    parts.append(f"cost {cost(stack.before, stack.after)}")
    parts.append(f"NeuronCores {neuron_cores(stack.before, stack.after)}")
    return " · ".join(parts)


def cost(before: Figures, after: Figures) -> str:
    """Cost an hour at both revisions."""
    old, new = _price(before), _price(after)
    if old == new:
        return f"{new}" if new == "unknown" else f"unchanged at {new}"
    relative = rise(before.cost_max, after.cost_max)
    suffix = f" ({relative:+.0%} at full scale)" if relative is not None else ""
    unpriced = f", without {', '.join(after.unpriced)}" if after.unpriced else ""
    return f"{old} → {new}{suffix}{unpriced}"


def neuron_cores(before: Figures, after: Figures) -> str:
    """NeuronCores at both revisions, and the peak during an upgrade."""
    old, new = _cores(before), _cores(after)
    text = (f"{new}" if new == "unknown" else f"unchanged at {new}") if old == new else f"{old} → {new}"
    peak = f", {after.upgrade_peak} during an upgrade" if after.upgrade_peak is not None else ""
    return text + peak


def action(changed: Changed) -> str:
    """What the engine does with a changed resource, and why."""
    if changed.action == "replace":
        order = "the old one stays" if changed.resource.retain_on_delete else _ORDERS[changed.deletes_first]
        return f"replaced, {order}; because of {'; '.join(changed.because)}"
    because = f": {'; '.join(changed.because)}" if changed.because else ""
    return _ACTIONS[changed.action] + because


def consequences(rollout: Rollout) -> Iterator[str]:
    """What the update of a RayService does to what runs, one line each."""
    lines = [*_on_the_cluster(rollout), *(() if rollout.second_cluster else _on_replicas(rollout))]
    if rollout.operator:
        lines.append(f"taken over by the operator, what runs does not notice: {', '.join(rollout.operator)}")
    if rollout.unknown:
        lines.append(f"effect on what runs unknown: {', '.join(rollout.unknown)}")
    yield from lines or ["nothing that runs is touched"]


def _on_the_cluster(rollout: Rollout) -> Iterator[str]:
    hashed = ", ".join(rollout.new_cluster)
    if rollout.second_cluster:
        cores = rollout.neuron_cores
        more = "" if cores is None else f", {cores} NeuronCores more while it lasts"
        yield f"new Ray cluster beside the running one{more}: {hashed}"
        if rollout.reloads or rollout.in_place or rollout.nothing:
            yield "all other changes come with the new Ray cluster"
    elif hashed:
        yield f"upgradeStrategy None: the running Ray cluster stays as it is, in spite of {hashed}"


def _on_replicas(rollout: Rollout) -> Iterator[str]:
    for owner, properties in rollout.reloads.items():
        what = "deployment" if "/" in owner else "every deployment of application"
        yield f"replicas reload, {what} {owner}: {', '.join(properties)}"
    for owner, properties in rollout.in_place.items():
        yield f"no reload, taken over while it serves, {owner}: {', '.join(properties)}"
    if rollout.nothing:
        yield f"nothing that runs takes over, only the next Ray cluster: {', '.join(rollout.nothing)}"


def _price(figures: Figures) -> str:
    if figures.cost_min is None or figures.cost_max is None:
        return "unknown"
    return f"{figures.cost_min:.2f}-{figures.cost_max:.2f} {figures.currency or ''}/h".replace(" /h", "/h")


def _cores(figures: Figures) -> str:
    if figures.cores_min is None or figures.cores_max is None:
        return "unknown"
    return f"{figures.cores_min}-{figures.cores_max}"
