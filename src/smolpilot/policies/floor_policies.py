"""The floors of a success rate: command the start pose, or go to random targets. No torch.

What they reach needs no policy at all; a success rate that is not above theirs shows nothing. Both look at the state
only, and plan a whole episode at once where its length is known.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.common.hashing import content_name
from smolpilot.common.text import listed_joints
from smolpilot.contracts.observation import Floats, Observation
from smolpilot.contracts.policy import RANDOM, Embodiment, Leftover, Policy, PolicyOptions, PolicySpec

from . import baselines
from .baselines import CHUNK_SIZE, action_limits, at_rest, opened, resting, statistics_of
from .checked_observations import read_state, refuse_previous

HOLD = 8  # steps for which a random target is held
FLOORS = ("no-op", "random", "hold-state")


class NoOp(Policy):
    """Commands through the whole chunk, which lasts an episode, what the joints read at its start."""

    spec: PolicySpec

    def __init__(
        self, spec: PolicySpec, state_names: Sequence[str], places: Sequence[int | None], rest: Floats
    ) -> None:
        """places [A]: where an action stands in the state, None for one that is not read; rest [A]: what such a one is
        commanded."""
        self.spec, self._names, self._rest = spec, tuple(state_names), rest
        self._read = [number for number, place in enumerate(places) if place is not None]
        self._places = [place for place in places if place is not None]

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """As the contract says; the images and the instruction are not looked at."""
        refuse_previous(previous, self.spec.name)
        rows = np.tile(self._rest, (len(observations), 1))
        for row, one in zip(rows, observations, strict=True):
            row[self._read] = read_state(one, self.spec.state_dim, self._names)[self._places]
        return np.repeat(rows[:, None], self.spec.chunk_size, axis=1)


class RandomTargets(Policy):
    """Goes to targets drawn evenly between the ends of each action's range, a new one every 8 steps."""

    spec: PolicySpec

    def __init__(self, spec: PolicySpec, state_names: Sequence[str], ends: npt.NDArray[np.float64]) -> None:
        """ends [A, 2]: the least and the largest value of each action."""
        self.spec, self._names, self._ends = spec, tuple(state_names), ends

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """As the contract says; nothing is looked at, but the state has to be there and finite."""
        refuse_previous(previous, self.spec.name)
        low, high = self._ends.T
        count = -(-self.spec.chunk_size // HOLD)
        chunks = np.empty((len(observations), self.spec.chunk_size, self.spec.action_dim), np.float32)
        for number, one in enumerate(observations):
            read_state(one, self.spec.state_dim, self._names)
            rng = np.random.default_rng(None if seeds is None else seeds[number])
            targets = rng.uniform(low, high, (count, len(low)))
            chunks[number] = np.repeat(targets, HOLD, axis=0)[: self.spec.chunk_size]
        return chunks


def no_op(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """`no-op`: the start pose by joint name; zero, or the limit next to it, for actions that are not read joints. Where
    the environment says which action leaves the robot where it is, that one.

    UsageError without an embodiment that names its joints.
    """
    spec, names, body = opened("no-op", source, options, embodiment)
    if body.rest:
        spec = _for_an_episode(resting(spec), body, CHUNK_SIZE)
        return NoOp(spec, names, [None] * spec.action_dim, np.array(body.rest, np.float32))
    places = [names.index(name) if name in names else None for name in spec.action_names]
    rest = at_rest(spec, body)
    unread = [name for name, place in zip(spec.action_names, places, strict=True) if place is None]
    if unread:
        said = f"no-op commands 0, or the limit next to it, where no state is read: {listed_joints(unread)}."
        spec = dataclasses.replace(spec, facts=dataclasses.replace(spec.facts, notes=(said,)))
    return NoOp(_for_an_episode(spec, body, CHUNK_SIZE), names, places, rest)


def random_targets(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """`random`: targets within the profile's position limits; where it has none, within the environment's own range,
    else between the least and the largest action of `--policy-stats-from DATASET` or of the embodiment's statistics.

    UsageError for an action that has none of them, and without an embodiment that names its joints.
    """
    spec, names, body = opened("random", source, options, embodiment, "stats_from")
    if options.stats_from is not None:
        spec = dataclasses.replace(spec, statistics=statistics_of(Path(options.stats_from), spec, body))
    ends = action_limits(spec, body)
    bare = [name for name, found in zip(spec.action_names, ends, strict=True) if found is None]
    if bare:
        raise UsageError(
            f"random draws targets within each action's range, but {body.owner} has none for {listed_joints(bare)}.",
            expected="position limits in the robot profile, or demonstrations",
            fix="name a dataset of this robot: --policy-stats-from DATASET",
        )
    spec = dataclasses.replace(spec, capabilities=frozenset({RANDOM}))
    whole = HOLD * (CHUNK_SIZE // HOLD)  # no target is cut short
    return RandomTargets(_for_an_episode(spec, body, whole), names, np.array(ends, np.float64))


def floors_of(body: Embodiment) -> tuple[str, ...]:
    """The floors that differ from each other there: where nothing that is commanded is read, and where an action is a
    change, to hold the state is to do nothing."""
    read = set(body.state_names) & set(body.action_names)
    return FLOORS if read and not body.rest else tuple(name for name in FLOORS if name != "hold-state")


def code_of_floors() -> str:
    """A digest of the code that the floors run: what is kept of their episodes is of this code."""
    return content_name(*(Path(module.__file__ or "").read_bytes() for module in (baselines, sys.modules[__name__])))


def _for_an_episode(spec: PolicySpec, body: Embodiment, otherwise: int) -> PolicySpec:
    """The spec with chunks that last an episode, all of it executed before it plans again."""
    steps = otherwise if body.max_steps is None else body.max_steps
    return dataclasses.replace(spec, chunk_size=steps, n_action_steps=steps)
