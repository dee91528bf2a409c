"""The stored statistics of a recording against those of its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import QUANTILES, Statistics, array_statistics, merge_statistics
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.read.reader import open_dataset
from smolpilot.datasets.read.tables import Tables

from .image_statistics import ImageStatistics
from .rounding import true_statistics

# As `dataset check` judges: of the joint's standard deviation; recorders compute in float32.
_TOLERANCE = 0.01
# Of the joint's range: LeRobot's quantiles are merged from those of episodes, out of coarse histograms.
_QUANTILE_TOLERANCE = 0.1
# Cameras: of values from 0 to 1, over other frames and pixels than those that were counted while recording.
_CAMERA_TOLERANCE = 0.08
_CAMERA_FRAMES, _CAMERA_EPISODES = 48, 12
# Neighboring frames that one thread decodes.
_TOGETHER = 4
_INDEX_COLUMNS = ("index", "episode_index", "frame_index", "task_index", "timestamp")


@dataclass(frozen=True)
class Deviation:
    """One stored statistic that is wrong: of a feature's dimension `place`; `stored` None: it is missing."""

    feature: str
    place: int
    stat: str
    stored: float | None
    data: float

    @property
    def difference(self) -> float | None:
        """Stored minus data."""
        return None if self.stored is None else self.stored - self.data


def recompute_statistics(
    meta: DatasetMeta,
    tables: Tables,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    jobs: int = 1,
) -> Statistics:
    """Statistics of every numeric feature, exact, and of the cameras, over some frames spread evenly.

    `jobs` threads work at once; the numbers are the same, bit for bit, whatever their number.
    """
    columns = {
        name: flat(column, meta.statistics.get(name, {}))
        for name, column in tables.columns.items()
        if isinstance(column, np.ndarray) and column.dtype.kind in "fiub"
    }
    report = progress or (lambda what, done, total: None)
    with ThreadPoolExecutor(jobs) as pool:
        # A dimension each: a wide feature occupies all threads, and no sum depends on how many there are.
        parts = [(name, place) for name, column in columns.items() for place in range(column.shape[1])]
        found: dict[str, list[dict[str, npt.NDArray[np.float64]]]] = {name: [] for name in columns}
        work = pool.map(lambda part: array_statistics(np.ascontiguousarray(columns[part[0]][:, part[1]])), parts)
        for done, ((name, _), stats) in enumerate(zip(parts, work, strict=True), 1):
            found[name].append(stats)
            report("Columns", done, len(parts))
        statistics = {
            name: _side_by_side(dimensions, len(tables.columns[name]))
            for name, dimensions in found.items()
            if dimensions
        }
        if meta.cameras:
            statistics |= _camera_statistics(meta, pool, report)
    return statistics


def _column_statistics(column: npt.NDArray[Any], stored: Stored) -> dict[str, npt.NDArray[np.float64]]:
    return {**array_statistics(flat(column, stored)), "count": np.array([len(column)], dtype=np.float64)}


def find_deviations(meta: DatasetMeta, tables: Tables, data: Statistics, *, jobs: int = 1) -> list[Deviation]:
    """Stored statistics that `data` contradicts beyond tolerance, or that state, action and cameras lack."""
    cameras = {camera.key for camera in meta.cameras.values()}

    def look(name: str) -> list[Deviation]:
        computed, stored = data[name], meta.statistics.get(name, {})
        needed = name in (STATE, ACTION) or name in cameras
        if not stored and not needed:
            return []
        if name in cameras:
            return _camera_deviations(name, stored, computed)
        merged: dict[str, npt.NDArray[np.float64]] | None = None
        found: list[Deviation] = []
        for stat, values in computed.items():
            # Quantiles are younger than the format: recordings without them are whole.
            if stat not in stored and (not needed or stat.startswith("q")):
                continue
            wrong = _compare(name, stat, stored.get(stat), values, _tolerance(computed, stat), None)
            if wrong and stat.startswith("q"):
                # Only now: they are counted episode by episode.
                merged = merged or _merged_quantiles(meta, tables, name)
                wrong = _compare(name, stat, stored.get(stat), values, _tolerance(computed, stat), merged.get(stat))
            elif wrong and stat in ("mean", "std"):
                # As `dataset check` judges: the writer's float32 sums, of which a joint at rest shows the most.
                rows = flat(tables.array(name), stored).astype(np.float64)
                room = true_statistics(rows, len(rows)).allowed(stat)
                wrong = _compare(name, stat, stored.get(stat), values, room, None)
            found += _surely_wrong(wrong, meta, tables, computed)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return [one for found in pool.map(look, data) for one in found]


def _side_by_side(
    dimensions: list[dict[str, npt.NDArray[np.float64]]], rows: int
) -> dict[str, npt.NDArray[np.float64]]:
    joined = {key: np.concatenate([one[key] for one in dimensions]) for key in dimensions[0] if key != "count"}
    order = list(dimensions[0])
    joined["count"] = np.array([rows], dtype=np.float64)
    return {key: joined[key] for key in order}


def _camera_statistics(
    meta: DatasetMeta, pool: ThreadPoolExecutor, report: Callable[[str, int, int], None]
) -> Statistics:
    few = np.unique(np.linspace(0, len(meta.episodes) - 1, _CAMERA_EPISODES).astype(int))
    dataset = open_dataset(meta.root, episodes=[meta.episodes[i].index for i in few], trainable=False)
    frames = [int(i) for i in np.unique(np.linspace(0, len(dataset) - 1, _CAMERA_FRAMES).astype(int))]

    def count(camera: str, places: list[int]) -> ImageStatistics:
        seen = ImageStatistics()
        for frame in places:
            # Number 0: this frame is one of the sample, whatever its place.
            seen.add(dataset.image(frame, camera), 0)
        return seen

    statistics: Statistics = {}
    pieces = [frames[first : first + _TOGETHER] for first in range(0, len(frames), _TOGETHER)]
    for name, camera in meta.cameras.items():
        seen, done = ImageStatistics(), 0
        for places, part in zip(pieces, pool.map(partial(count, name), pieces), strict=True):
            seen.merge(part)
            done += len(places)
            report(f"Camera {name}", done, len(frames))
        statistics[camera.key] = seen.result()
    return statistics


def _surely_wrong(wrong: list[Deviation], meta: DatasetMeta, tables: Tables, computed: Stored) -> list[Deviation]:
    """Without quantiles that a coarse histogram may give for values that jump."""
    if not wrong or not wrong[0].stat.startswith("q"):
        return wrong
    name, stat = wrong[0].feature, wrong[0].stat
    column, stored = tables.array(name), meta.statistics.get(name, {})
    spans = (slice(*tables.spans[episode.index]) for episode in meta.episodes)
    low, high = quantile_band([flat(column[span], stored) for span in spans], stat)
    slack = _tolerance(computed, stat)
    return [
        one
        for one in wrong
        if one.stored is None
        or not low[one.place] - slack[one.place] <= one.stored <= high[one.place] + slack[one.place]
    ]


def joint_names(meta: DatasetMeta, feature: str, size: int | None = None) -> list[str]:
    """A name for each dimension of a feature's statistics; `size` is how many they have, where that is known."""
    entry = meta.features[feature]
    pictures = entry.dtype in ("video", "image")
    if size is None:
        size = 3 if pictures else int(np.prod(entry.shape))
    if pictures and size in (1, 3):
        return ["red", "green", "blue"] if size == 3 else ["value"]
    names = list(entry.names or [])
    if feature in (STATE, ACTION):
        names = meta.state_names if feature == STATE else meta.action_names
    elif size == 1:
        return [feature]
    return names if len(names) == size and not pictures else [f"{feature}_{i}" for i in range(size)]


def is_index(feature: str) -> bool:
    """Whether a feature only numbers frames: its statistics interest nobody."""
    return feature in _INDEX_COLUMNS


def _tolerance(computed: dict[str, npt.NDArray[np.float64]], stat: str) -> npt.NDArray[np.float64]:
    low, high, spread = computed["min"], computed["max"], computed["std"]
    if stat == "count":
        return np.zeros_like(low)
    # A joint that never moves still has the rounding of its numbers.
    rounding = 1e-6 + 1e-4 * np.maximum(np.abs(low), np.abs(high))
    scale = _TOLERANCE * np.maximum(spread, rounding)
    return np.asarray(_QUANTILE_TOLERANCE * (high - low) + scale if stat.startswith("q") else scale, dtype=np.float64)


def _compare(
    name: str,
    stat: str,
    stored: npt.NDArray[np.float64] | None,
    computed: npt.NDArray[np.float64],
    tolerance: npt.NDArray[np.float64],
    merged: npt.NDArray[np.float64] | None,
) -> list[Deviation]:
    values = None if stored is None else stored.ravel()
    if values is None or len(values) != len(computed):
        return [Deviation(name, i, stat, None, float(value)) for i, value in enumerate(computed)]
    close = np.abs(values - computed) <= tolerance[: len(computed)]
    if merged is not None:
        close |= np.abs(values - merged) <= tolerance
    return [Deviation(name, int(i), stat, float(values[i]), float(computed[i])) for i in np.flatnonzero(~close)]


def _merged_quantiles(meta: DatasetMeta, tables: Tables, name: str) -> dict[str, npt.NDArray[np.float64]]:
    """Quantiles as LeRobot merges them: the mean of the episodes' own, weighted by length."""
    column, stored = tables.array(name), meta.statistics.get(name, {})
    spans = (slice(*tables.spans[episode.index]) for episode in meta.episodes)
    parts = [{name: _column_statistics(column[span], stored)} for span in spans]
    return {stat: values for stat, values in merge_statistics(parts)[name].items() if stat.startswith("q")}


def _camera_deviations(
    name: str, stored: dict[str, npt.NDArray[np.float64]], computed: dict[str, npt.NDArray[np.float64]]
) -> list[Deviation]:
    found = []
    for stat in ("mean", "std"):
        values = computed[stat].ravel()
        tolerance = np.full(len(values), _CAMERA_TOLERANCE)
        found += _compare(name, stat, stored.get(stat), values, tolerance, None)
    return found


type Stored = dict[str, npt.NDArray[Any]]

# Of the rows: within that share of ranks beside a quantile, a histogram's answer may be the neighboring value.
_RANKS = 0.02


def flat(column: npt.NDArray[Any], stored: Stored) -> npt.NDArray[Any]:
    """The rows `[M, D]` over which the statistics of a column `[N, …]` are made.

    LeRobot (compute_stats.py, RunningQuantileStats.update) puts the rows of a matrix, and of a tensor, among those of
    all frames: D is its last dimension. Where the stored statistics have an entry per place, D is all places.
    """
    per_place = "mean" in stored and stored["mean"].size == column[0].size
    if column.ndim > 2 and not per_place:
        return column.reshape(-1, column.shape[-1])
    return column.reshape(len(column), -1)


def quantile_band(
    episodes: Sequence[npt.NDArray[Any]], stat: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The least and the greatest value `[D]` that a quantile made from coarse histograms of episodes can have.

    Matters where values jump (grippers, flags): there the exact quantile of half the rows is any value between.
    """
    weights = np.array([len(rows) for rows in episodes], dtype=np.float64)
    bounds = np.stack([_neighbors(rows, QUANTILES[stat]) for rows in episodes])
    low, high = np.tensordot(weights / weights.sum(), bounds, axes=1)
    return low, high


def _neighbors(rows: npt.NDArray[Any], share: float) -> npt.NDArray[np.float64]:
    room = max(_RANKS, 1 / len(rows))
    at = np.clip([share - room, share + room], 0, 1)
    values = np.asarray(rows, dtype=np.float64)
    low = np.quantile(values, at[0], axis=0, method="lower")
    return np.stack([low, np.quantile(values, at[1], axis=0, method="higher")])
