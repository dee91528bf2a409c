"""State and action as they are in memory: their statistics, beside the stored ones, and what is wrong with them.

Numbers that normalize a policy are computed from its frames, never believed: files are copied, cut and rescaled, and
their `meta/stats.json` stays. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import QUANTILES, Statistics, array_statistics

from .rounding import Deviation, unlike, wrong_statistics

if TYPE_CHECKING:
    from smolpilot.datasets.format.meta import DatasetMeta
    from smolpilot.datasets.read.reader import Dataset

type Values = npt.NDArray[np.floating]

_GRAVEST = ("std", "mean", "min", "max", *QUANTILES)
_OF_RANGE = 0.01  # of the range: quantiles are read from histograms
_USUAL = 0.01  # share of the frames at each end of a joint's range that may be anything
_FAR, _ABSURD = 10.0, 100.0  # usual ranges away from the usual range: seen, and stopped
_ALONE = 3  # frames: what stays away for longer is another pose


@dataclass(frozen=True)
class Disagreement:
    """A stored statistic that the frames do not have; `joint` by its name."""

    feature: str
    joint: str
    statistic: str
    stored: float
    computed: float

    def text(self) -> str:
        """As a person reads it; the two numbers never look alike."""
        stored, computed = unlike(self.stored, self.computed)
        return (
            f"the {self.statistic} of '{self.feature}', joint '{self.joint}', is {stored}; the frames give {computed}"
        )


@dataclass(frozen=True)
class Outlier:
    """A joint that leaves its usual range [low, high] for a few single frames. `absurd`: no motion explains it."""

    feature: str
    joint: str
    value: float
    episode: int
    frame: int
    low: float
    high: float
    frames: int
    episodes: tuple[int, ...]
    absurd: bool

    def text(self) -> str:
        """As a person reads it."""
        more = f" (and {self.frames - 1} more such frames)" if self.frames > 1 else ""
        return (
            f"'{self.feature}', joint '{self.joint}', is {self.value:.5g} in episode {self.episode}, frame {self.frame}"
            f"{more}; it is usually between {self.low:.5g} and {self.high:.5g}"
        )


def exact_statistics(dataset: Dataset) -> Statistics:
    """Statistics of state and action over the selected frames, in float64; column by column, to save memory."""
    return {key: column_statistics(values) for key, values in ((STATE, dataset.states), (ACTION, dataset.actions))}


def column_statistics(values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """The same as `array_statistics` of `values` [N, D], with the memory of one column in float64."""
    joined = side_by_side([array_statistics(values[:, joint]) for joint in range(values.shape[1])], len(values))
    count = joined.pop("count")
    return {**joined, "count": count}


def side_by_side(
    columns: Sequence[dict[str, npt.NDArray[np.float64]]], rows: int
) -> dict[str, npt.NDArray[np.float64]]:
    """The statistics of a feature with so many rows, out of those of its dimensions."""
    joined = {name: np.concatenate([own[name] for own in columns]) for name in columns[0]}
    return {**joined, "count": np.array([rows], dtype=np.float64)}


def folder_statistics(path: str | Path) -> tuple[DatasetMeta, Statistics]:
    """A dataset's facts and the statistics of its frames; only the tables are read.

    Raises what `read_meta` raises, and DatasetError for tables that cannot be read.
    """
    from smolpilot.datasets.format.meta import read_meta
    from smolpilot.datasets.read.tables import load_tables

    meta = read_meta(path)
    tables = load_tables(meta, meta.episodes)
    return meta, {key: column_statistics(tables.array(key)) for key in (STATE, ACTION)}


def leave_out(dataset: Dataset, episodes: Sequence[int]) -> str:
    """What to do about broken episodes: a command, where the others are worth keeping."""
    root = dataset.meta.root
    if 2 * len(episodes) > len(dataset.episodes):
        return f"record them again; `smolpilot dataset check {root}` lists every place"
    listed = ",".join(str(episode) for episode in episodes)
    return f"leave them out: smolpilot dataset exclude {root} NEW --episodes {listed}"


def disagreements(stored: Statistics, computed: Statistics, dataset: Dataset) -> list[Disagreement]:
    """Stored statistics of state and action that the selected frames do not have, at most one for each joint.

    `computed` are those of the frames. What a writer's float32 sums, rounded digits and histograms of quantiles do is
    no disagreement (docs/dataset-checks.md); statistics that are not stored, or of another shape, are left to others.
    """
    found: list[Disagreement] = []
    lengths = [len(part) for part in np.split(dataset.episode_index, _starts(dataset.episode_index))]
    for key, values in ((STATE, dataset.states), (ACTION, dataset.actions)):
        told = {name: one for name, one in stored.get(key, {}).items() if one.shape == (values.shape[1],)}
        fitting = {name: told[name] for name in _GRAVEST if name in told and np.isfinite(told[name]).all()}
        seen: dict[int, Deviation] = {}
        for wrong in wrong_statistics(key, fitting, values, lengths, count=len(values), quantile=_OF_RANGE):
            seen.setdefault(wrong.place, wrong)
        names = _names(dataset.meta, key)
        for place, wrong in seen.items():
            stored_value, true = float(told[wrong.stat][place]), float(computed[key][wrong.stat][place])
            found.append(Disagreement(key, names[place], wrong.stat, stored_value, true))
    return found


def _starts(episode_index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each episode but the first begins."""
    return np.flatnonzero(np.diff(episode_index)) + 1


def outliers(dataset: Dataset) -> list[Outlier]:
    """Joints of state and action that leave their usual range for a few frames in a row, far and alone."""
    return [found for key, values in ((STATE, dataset.states), (ACTION, dataset.actions))
            for found in _outliers(dataset, key, values)]  # fmt: skip


def _outliers(dataset: Dataset, key: str, values: Values) -> list[Outlier]:
    aside = min(max(_ALONE, round(_USUAL * len(values))), len(values) // 20)
    if not aside:
        return []
    last = len(values) - 1 - aside
    usual = np.partition(values, (aside, last), axis=0)[[aside, last]].astype(np.float64)
    spans = usual[1] - usual[0]
    widest = float(spans.max())
    found = []
    for joint in range(values.shape[1]):
        low, high = usual[:, joint]
        column = values[:, joint]
        room = max(_FAR * spans[joint], widest)
        if room == 0 or (column.min() >= low - room and column.max() <= high + room):
            continue
        away = np.flatnonzero((column < low - room) | (column > high + room))
        runs = np.split(away, np.flatnonzero(np.diff(away) > 1) + 1)
        rows = np.concatenate([run for run in runs if len(run) <= _ALONE] or [away[:0]])
        if not len(rows):
            continue
        distance = np.maximum(low - column[rows], column[rows] - high)
        row = int(rows[distance.argmax()])
        found.append(
            Outlier(
                key,
                _names(dataset.meta, key)[joint],
                float(column[row]),
                int(dataset.episode_index[row]),
                int(dataset.frame_index[row]),
                float(low),
                float(high),
                len(rows),
                tuple(np.unique(dataset.episode_index[rows]).tolist()),
                absurd=bool(distance.max() > _ABSURD * max(spans[joint], widest)),
            )
        )
    return found


def _names(meta: DatasetMeta, key: str) -> list[str]:
    return list(meta.state_names if key == STATE else meta.action_names)
