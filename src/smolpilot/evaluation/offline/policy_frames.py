"""Recorded frames as a policy's robot would give them: for scoring, for parity, for calibration, for timing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.common.progress import working
from smolpilot.contracts import HISTORY, make_observation
from smolpilot.evaluation.predictions import F32

from .dataset_adapter import Binding, bind

if TYPE_CHECKING:
    from smolpilot.contracts import Policy, PolicySpec
    from smolpilot.datasets import Dataset

CALIBRATION_FRAMES = 32


class RobotFrames:
    """A dataset's frames in a policy's joint order and units, with the cameras and the history that it reads."""

    def __init__(self, dataset: Dataset, bound: Binding, spec: PolicySpec) -> None:
        self._dataset, self._bound = dataset, bound
        self.states: F32 = bound.state.forward(dataset.states)
        self._before = spec.n_obs_steps - 1
        starts = np.flatnonzero(np.diff(dataset.episode_index, prepend=-1))
        self._start_of = starts[np.searchsorted(starts, np.arange(len(dataset)), side="right") - 1]
        self._kept: OrderedDict[int, dict[str, Any]] = OrderedDict()  # neighbors share most of their history

    def observation(self, row: int) -> dict[str, Any]:
        """Frame `row` as an observation; where the policy reads several, with those before it in its episode."""
        own = self._single(row)
        if not self._before:
            return own
        first = max(int(self._start_of[row]), row - self._before)
        return {**own, HISTORY: tuple(self._single(earlier) for earlier in range(first, row))}

    def _single(self, row: int) -> dict[str, Any]:
        if row not in self._kept:
            seen = {camera: self._dataset.image(row, camera) for camera in self._bound.cameras}
            self._kept[row] = make_observation(self.states[row].copy(), seen, self._dataset.instruction(row))
            while len(self._kept) > self._before + 1:
                self._kept.popitem(last=False)
        return self._kept[row]


@working("reading recorded frames")
def recorded_frames(
    policy: Policy,
    recording: Path | Dataset,
    count: int,
    *,
    units: Mapping[str, str] | None = None,
    beside: int = 0,
) -> list[dict[str, Any]]:
    """`count` frames spread evenly over a dataset; states in the policy's own joint order and units.

    units: as in `bind`.
    beside: as many frames as another call takes to measure on; none of those is given, so that calibrating and
    measuring use different ones (where the recording has more than those). Raises what `open_dataset` and `bind` raise.
    """
    from smolpilot.datasets import open_dataset

    dataset = open_dataset(recording) if isinstance(recording, Path) else recording
    bound = bind(policy, dataset.meta, units)
    robot = RobotFrames(dataset, bound, policy.spec)
    rows = np.arange(len(dataset))
    left = np.setdiff1d(rows, _spread(rows, beside)) if beside else rows
    return [robot.observation(row) for row in _spread(left if len(left) else rows, count).tolist()]


def _spread(rows: Any, count: int) -> Any:
    """`count` of the rows, evenly; all of them where there are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]
