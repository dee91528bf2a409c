"""What the episodes of a dataset say of a robot's speed and start poses (`robots.demonstrated`). Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated, Episode, Origin
from smolpilot.robots.layout import FrameLayout, map_layout

if TYPE_CHECKING:
    from smolpilot.datasets.read.reader import Dataset


def demonstrated_by(dataset: Dataset, layout: FrameLayout, profile: RobotProfile) -> Demonstrated:
    """Limits and start poses of the selected episodes, in the profile's order and units, at the dataset's own rate.

    layout: order and units of the dataset's joints. ProfileError where they do not match the profile's.
    """
    meta = dataset.meta
    origin = Origin(
        dataset=meta.root.name or str(meta.root),
        fingerprint=meta.fingerprint,
        rate=float(meta.fps),
        frames=len(dataset),
        episodes=tuple(int(index) for index in dataset.episodes),
    )
    return Demonstrated.from_episodes(_episodes(dataset, layout, profile), profile, origin)


def _episodes(dataset: Dataset, layout: FrameLayout, profile: RobotProfile) -> Iterator[Episode]:
    """Actions and states of each episode, as the policy gives and takes them."""
    state, action = map_layout(layout, profile)
    states, actions, index = dataset.states, dataset.actions, dataset.episode_index
    ends = [*(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    for first, last in zip([0, *ends], ends, strict=False):
        # In double, as the policy's numbers are not: the differences of large values are small.
        yield (
            action.forward(actions[first:last].astype(np.float64)),
            state.forward(states[first:last].astype(np.float64)),
        )
