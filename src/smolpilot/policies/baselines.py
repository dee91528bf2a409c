"""The two policies that a trained one has to beat: hold the state, and always give the mean action. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION
from smolpilot.common.statistics import Statistics
from smolpilot.contracts.observation import Floats, Observation
from smolpilot.contracts.policy import Embodiment, Leftover, Policy, PolicyFacts, PolicyOptions, PolicySpec

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
    """`hold-state`: the state laid out as actions by joint name.

    UsageError without an embodiment that names its joints, and for an action whose joint the state does not hold.
    """
    joints = _joints("hold-state", source, options, embodiment)
    places = {name: place for place, name in enumerate(joints.state)}
    missing = [name for name in joints.action if name not in places]
    if missing:
        raise UsageError(
            f"hold-state commands the state, but {joints.owner} reads no joint {', '.join(map(repr, missing))}.",
            expected=f"each commanded joint among those that are read: {', '.join(joints.state)}",
            fix="take mean-action as the baseline",
        )
    order = [places[name] for name in joints.action]
    return Baseline(joints.spec("hold-state"), joints.state, lambda state: state[order])


def mean_action(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """`mean-action`: the mean action of `--policy-stats-from DATASET`, else of the embodiment's statistics.

    UsageError where neither holds it, and for one of another length than the robot has commands.
    """
    joints = _joints("mean-action", source, options, embodiment, "stats_from")
    statistics = embodiment.statistics if embodiment is not None else {}
    owner = joints.owner
    if options.stats_from is not None:
        statistics, owner = _statistics_of(options.stats_from, joints), str(options.stats_from)
    mean = statistics.get(ACTION, {}).get("mean")
    if mean is None:
        raise UsageError(
            f"mean-action commands the mean action of demonstrations, but {owner} has no statistics of 'action'.",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    values = np.asarray(mean, dtype=np.float32).reshape(-1)
    if len(values) != len(joints.action) or not np.isfinite(values).all():
        raise UsageError(
            f"The mean action of {owner} has {len(values)} values, {int(np.isfinite(values).sum())} of them finite.",
            expected=f"{len(joints.action)} finite numbers: {', '.join(joints.action)}",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    return Baseline(joints.spec("mean-action", statistics), joints.state, lambda state: values)


@dataclass(frozen=True)
class _Joints:
    """What is read and what is commanded, by name, in order."""

    state: tuple[str, ...]
    action: tuple[str, ...]
    owner: str
    embodiment: Embodiment

    def spec(self, name: str, statistics: Statistics | None = None) -> PolicySpec:
        body = self.embodiment
        units = tuple(joint.unit for joint in body.profile.action_joints) if body.profile is not None else ()
        return PolicySpec(
            name=name,
            state_dim=len(self.state),
            action_dim=len(self.action),
            chunk_size=CHUNK_SIZE,
            n_action_steps=N_ACTION_STEPS,
            profile=body.profile,
            action_names=self.action,
            action_units=units if len(units) == len(self.action) else (),
            rate=body.rate if body.rate is not None or body.profile is None else body.profile.rate,
            statistics=body.statistics if statistics is None else statistics,
            facts=PolicyFacts(source=name, kind="baseline"),
        )


def _joints(name: str, source: str, options: PolicyOptions, embodiment: Embodiment | None, *known: str) -> _Joints:
    if source:
        raise UsageError(f"{name} takes no source, but was given '{source}'.", fix=f"name it alone: {name}")
    options.only(name, "device", *known)
    if embodiment is not None:
        profile = embodiment.profile
        state = tuple(joint.name for joint in profile.state_joints) if profile is not None else embodiment.state_names
        action = (
            tuple(joint.name for joint in profile.action_joints) if profile is not None else embodiment.action_names
        )
        if state and action:
            return _Joints(tuple(state), tuple(action), embodiment.owner, embodiment)
    who = "no robot, environment or dataset is named" if embodiment is None else f"{embodiment.owner} names no joints"
    raise UsageError(
        f"{name} needs to know the robot's joints, but {who}.",
        expected="the names of the joints that are read and commanded",
        fix="run it on a dataset (--dataset) or in an environment (rollout --env)",
    )


def _statistics_of(dataset: Path, joints: _Joints) -> Statistics:
    """Statistics of a dataset, in the embodiment's joint order and units."""
    from smolpilot.datasets.statistics.stored_statistics import folder_statistics
    from smolpilot.robots.layout import FrameLayout, to_policy_order

    meta, computed = folder_statistics(dataset)
    profile = joints.embodiment.profile
    if profile is None and tuple(meta.action_names) != joints.action:
        raise UsageError(
            f"The actions of {dataset} are {', '.join(meta.action_names)}, those of {joints.owner} "
            f"{', '.join(joints.action)}.",
            expected="the same joints in the same order",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    return to_policy_order(computed, FrameLayout.of_dataset(meta), profile)
