"""Recorded frames as a policy's robot would give them: for parity, for calibration, for timing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.contracts import HISTORY, make_observation
from smolpilot.waiting import working

from .binding import Binding, bind
from .scored import F32

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy
    from smolpilot.datasets import Dataset

CALIBRATION_FRAMES = 32


@working("reading recorded frames")
def recorded_frames(
    policy: Policy,
    recording: Path | Dataset,
    count: int,
    *,
    units: Mapping[str, str] | None = None,
    beside: int = 0,
) -> list[Observation]:
    """`count` frames spread evenly over a dataset; states in the policy's own joint order and units.

    units: as in `bind`.
    beside: as many frames as another call takes to measure on; none of those is given, so that calibrating and
    measuring use different ones (where the recording has more than those). Raises what `open_dataset` and `bind` raise.
    """
    from smolpilot.datasets import open_dataset

    dataset = open_dataset(recording) if isinstance(recording, Path) else recording
    bound = bind(policy, dataset.meta, units)
    states = bound.state.forward(dataset.states)
    rows = np.arange(len(dataset))
    left = np.setdiff1d(rows, _spread(rows, beside)) if beside else rows
    return [
        observed(dataset, bound, states, row, policy.spec.n_obs_steps)
        for row in _spread(left if len(left) else rows, count).tolist()
    ]


def observed(dataset: Dataset, bound: Binding, states: F32, row: int, steps: int) -> Observation:
    """One frame as the robot would give it, with those before it in its episode for policies that read `steps` of them.

    states [N, S] of all frames of the dataset, in the policy's order and units.
    """

    def alone(row: int) -> dict[str, Any]:
        seen = {camera: dataset.image(row, camera) for camera in bound.cameras}
        return make_observation(states[row], seen, dataset.instruction(row))

    if steps == 1:
        return alone(row)
    episodes = dataset.episode_index
    before = [i for i in range(max(0, row - steps + 1), row) if episodes[i] == episodes[row]]
    return {**alone(row), HISTORY: tuple(map(alone, before))}


def _spread(rows: Any, count: int) -> Any:
    """`count` of the rows, evenly; all of them where there are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]
