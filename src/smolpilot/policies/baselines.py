"""The two policies that a trained one has to beat: hold the state, and always give the mean action. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import listed_joints
from smolpilot.contracts.observation import Floats, Observation
from smolpilot.contracts.policy import Embodiment, Leftover, Policy, PolicyFacts, PolicyOptions, PolicySpec
from smolpilot.robots.layout import FrameLayout, to_policy_order

from .checked_observations import read_state, refuse_previous

CHUNK_SIZE = 50
N_ACTION_STEPS = 10


class Baseline(Policy):
    """Commands one action, made of the state that was read, through the whole chunk."""

    spec: PolicySpec

    def __init__(self, spec: PolicySpec, state_names: Sequence[str], action: Callable[[Floats], Floats]) -> None:
        """action: state [S] -> action [A]."""
        self.spec, self._names, self._action = spec, tuple(state_names), action

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """As the contract says; the images and the instruction are not looked at."""
        refuse_previous(previous, self.spec.name)
        states = [read_state(one, self.spec.state_dim, self._names) for one in observations]
        rows = np.array([self._action(state) for state in states], dtype=np.float32)
        return np.repeat(rows.reshape(-1, 1, self.spec.action_dim), CHUNK_SIZE, axis=1)


def hold_state(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """`hold-state`: the state laid out as actions by joint name. Where nothing that is commanded is read, as where an
    action says by how much to move, it commands 0, or the limit next to it.

    Where the environment says which action leaves the robot where it is, that one.

    UsageError without an embodiment that names its joints, and where only some of the commanded ones are read.
    """
    spec, names, body = opened("hold-state", source, options, embodiment)
    if body.rest:
        still = np.array(body.rest, np.float32)
        return Baseline(resting(spec), names, lambda state: still)
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in spec.action_names if name not in places]
    if len(missing) == len(spec.action_names):
        said = f"hold-state commands 0, or the limit next to it: no commanded joint is read: {listed_joints(missing)}."
        spec = dataclasses.replace(spec, facts=dataclasses.replace(spec.facts, notes=(said,)))
        rest = at_rest(spec, body)
        return Baseline(spec, names, lambda state: rest)
    if missing:
        raise UsageError(
            f"hold-state commands the state, but {body.owner} reads no joint {', '.join(map(repr, missing))}.",
            expected=f"each commanded joint among those that are read: {', '.join(names)}",
            fix="take mean-action as the baseline",
        )
    order = [places[name] for name in spec.action_names]
    return Baseline(spec, names, lambda state: state[order])


def mean_action(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """`mean-action`: the mean action of `--policy-stats-from DATASET`, else of the embodiment's statistics.

    UsageError where neither holds it, and for one of another length than the robot has commands.
    """
    spec, names, body = opened("mean-action", source, options, embodiment, "stats_from")
    owner = body.owner
    if options.stats_from is not None:
        owner = str(options.stats_from)
        spec = dataclasses.replace(spec, statistics=statistics_of(options.stats_from, spec, body))
    mean = spec.statistics.get(ACTION, {}).get("mean")
    if mean is None:
        raise UsageError(
            f"mean-action commands the mean action of demonstrations, but {owner} has no statistics of 'action'.",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    values = np.asarray(mean, dtype=np.float32).reshape(-1)
    if len(values) != spec.action_dim or not np.isfinite(values).all():
        raise UsageError(
            f"The mean action of {owner} has {len(values)} values, {int(np.isfinite(values).sum())} of them finite.",
            expected=f"{spec.action_dim} finite numbers: {', '.join(spec.action_names)}",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    return Baseline(spec, names, lambda state: values)


def opened(
    name: str, source: str, options: PolicyOptions, embodiment: Embodiment | None, *known: str
) -> tuple[PolicySpec, tuple[str, ...], Embodiment]:
    """The spec of a baseline, the joints that it reads, and what it drives, which names both.

    known: the options beside the device that it takes. UsageError for others, for a source, and without joints.
    """
    if source:
        raise UsageError(f"{name} takes no source, but was given '{source}'.", fix=f"name it alone: {name}")
    options.only(name, "device", *known)
    if embodiment is not None:
        state, action, units = tuple(embodiment.state_names), tuple(embodiment.action_names), None
        profile, rate = embodiment.profile, embodiment.rate
        if profile is not None:
            own = FrameLayout.of_profile(profile)
            state, action, units = own.state.names, own.action.names, own.action.units
            rate = profile.rate if rate is None else rate
        if state and action:
            spec = PolicySpec(
                name=name,
                state_dim=len(state),
                action_dim=len(action),
                chunk_size=CHUNK_SIZE,
                n_action_steps=N_ACTION_STEPS,
                profile=profile,
                action_names=action,
                action_units=units or (),
                rate=rate,
                statistics=embodiment.statistics,
                facts=PolicyFacts(source=name, kind="baseline"),
            )
            return spec, state, embodiment
    who = "no robot, environment or dataset is named" if embodiment is None else f"{embodiment.owner} names no joints"
    raise UsageError(
        f"{name} needs to know the robot's joints, but {who}.",
        expected="the names of the joints that are read and commanded",
        fix="run it on a dataset (--dataset) or in an environment (rollout --env)",
    )


def statistics_of(dataset: Path, spec: PolicySpec, body: Embodiment) -> Statistics:
    """Statistics of a dataset, in the embodiment's joint order and units."""
    from smolpilot.datasets.statistics.stored_statistics import folder_statistics

    meta, computed = folder_statistics(dataset)
    if spec.profile is None and tuple(meta.action_names) != spec.action_names:
        raise UsageError(
            f"The actions of {dataset} are {', '.join(meta.action_names)}, those of {body.owner} "
            f"{', '.join(spec.action_names)}.",
            expected="the same joints in the same order",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    return to_policy_order(computed, FrameLayout.of_dataset(meta), spec.profile)


def resting(spec: PolicySpec) -> PolicySpec:
    """The spec of what commands the environment's action at rest, with a note that says so."""
    said = f"{spec.name} commands the action that leaves the robot where it is, as the environment says it."
    return dataclasses.replace(spec, facts=dataclasses.replace(spec.facts, notes=(said,)))


def at_rest(spec: PolicySpec, body: Embodiment) -> Floats:
    """0 for each action [A], or the end of its range next to it."""
    rest = np.zeros(spec.action_dim, np.float32)
    for number, ends in enumerate(action_limits(spec, body)):
        if ends is not None:
            rest[number] = np.clip(0.0, *ends)
    return rest


def action_limits(spec: PolicySpec, body: Embodiment) -> list[tuple[float, float] | None]:
    """The range of each action [A]: of the profile, else of the environment, else of the statistics, else None."""
    joints = spec.profile.action_joints if spec.profile is not None else [None] * spec.action_dim
    least, most = (_values(spec, name) for name in ("min", "max"))
    found: list[tuple[float, float] | None] = []
    for number, joint in enumerate(joints):
        ends: tuple[float, float] | None = None
        if joint is not None and joint.position_limits is not None:
            ends = joint.position_limits
        elif body.action_range:
            ends = body.action_range[number]
        elif least is not None and most is not None:
            ends = (float(least[number]), float(most[number]))
        found.append(ends)
    return found


def _values(spec: PolicySpec, name: str) -> npt.NDArray[np.float64] | None:
    """A statistic of the actions [A], where there is one of finite numbers."""
    found = np.asarray(spec.statistics.get(ACTION, {}).get(name, ()), np.float64).reshape(-1)
    return found if len(found) == spec.action_dim and np.isfinite(found).all() else None
