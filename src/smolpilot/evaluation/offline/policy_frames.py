"""Recorded frames as a policy's robot would give them: for scoring, for parity, for calibration, for timing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.common.progress import working
from smolpilot.contracts import HISTORY, make_observation
from smolpilot.evaluation.predictions import F32

from .dataset_adapter import DatasetAdapter, adapt
from .selection import choose_episodes

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy, PolicySpec
    from smolpilot.datasets import Dataset

CALIBRATION_FRAMES = 32

type Calibration = Callable[[Policy], Sequence[Observation]]
"""The frames on which an engine's 8-bit mode is calibrated, for whatever policy asks: never those that are scored."""


class RobotFrames:
    """A dataset's frames in a policy's joint order and units, with the cameras and the history that it reads."""

    def __init__(self, dataset: Dataset, adapter: DatasetAdapter, spec: PolicySpec) -> None:
        self.dataset, self.adapter = dataset, adapter
        self.states: F32 = adapter.state.forward(dataset.states)
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
            seen = {camera: self.dataset.image(row, camera) for camera in self.adapter.cameras}
            self._kept[row] = make_observation(self.states[row].copy(), seen, self.dataset.instruction(row))
            while len(self._kept) > self._before + 1:
                self._kept.popitem(last=False)
        return self._kept[row]


@working("reading recorded frames")
def recorded_frames(
    policy: Policy,
    dataset: Path | Dataset,
    count: int,
    *,
    units: Mapping[str, str] | None = None,
    beside: int = 0,
) -> list[dict[str, Any]]:
    """`count` frames spread evenly over a dataset; states in the policy's own joint order and units.

    units: as in `adapt`.
    beside: as many frames as another call takes to measure on; none of those is given, so that calibrating and
    measuring use different ones (where the dataset has more than those). Raises what `open_dataset` and `adapt` raise.
    """
    from smolpilot.datasets import open_dataset

    dataset = open_dataset(dataset) if isinstance(dataset, Path) else dataset
    adapter = adapt(policy, dataset.meta, units)
    robot = RobotFrames(dataset, adapter, policy.spec)
    rows = np.arange(len(dataset))
    left = np.setdiff1d(rows, _spread(rows, beside)) if beside else rows
    return [robot.observation(row) for row in _spread(left if len(left) else rows, count).tolist()]


def frames_of(dataset: Path | Dataset, units: Mapping[str, str] | None = None) -> Calibration:
    """Frames spread over a dataset, in the joint order and units of whatever policy asks; `units` as in `adapt`."""
    return lambda policy: recorded_frames(policy, dataset, CALIBRATION_FRAMES, units=units)


def calibration_frames(dataset: Dataset, episodes: str, units: Mapping[str, str] | None = None) -> Calibration:
    """Frames of the episodes that an evaluation on `episodes` leaves out; UsageError, when asked, where none are."""
    return lambda policy: recorded_frames(
        policy, calibration_split(policy.spec, dataset, episodes), CALIBRATION_FRAMES, units=units
    )


def calibration_split(spec: PolicySpec, dataset: Dataset, episodes: str) -> Dataset:
    """The episodes that an evaluation on `episodes` leaves out; UsageError where there are none."""
    scored = set(choose_episodes(episodes, dataset.meta, spec.facts.lineage).episodes)
    others = [episode.index for episode in dataset.meta.episodes if episode.index not in scored]
    if not others:
        raise UsageError(
            "--engine int8 is calibrated on recorded frames, and every episode of this dataset is scored.",
            fix="name another dataset of this robot (--calibrate-on DIR), or score fewer episodes (--episodes)",
        )
    return dataset.select(others)


def _spread(rows: Any, count: int) -> Any:
    """`count` of the rows, evenly; all of them where there are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]
