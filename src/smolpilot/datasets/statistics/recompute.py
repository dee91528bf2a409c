"""The stored statistics of a dataset against those of its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, array_statistics
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.read.reader import open_dataset
from smolpilot.datasets.read.tables import Tables

from .image_statistics import ImageStatistics
from .rounding import Deviation, Stored, flat, is_quantile, wrong_statistics
from .stored_statistics import side_by_side

# Cameras: of values from 0 to 1, over other frames and pixels than those that were counted while recording.
_CAMERA_TOLERANCE = 0.08
_CAMERA_FRAMES, _CAMERA_EPISODES = 48, 12
# Neighboring frames that one thread decodes.
_TOGETHER = 4


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
            name: side_by_side(dimensions, len(tables.columns[name]))
            for name, dimensions in found.items()
            if dimensions
        }
        if meta.cameras:
            statistics |= _camera_statistics(meta, pool, report)
    return statistics


def find_deviations(meta: DatasetMeta, tables: Tables, data: Statistics, *, jobs: int = 1) -> list[Deviation]:
    """Stored statistics that `data` contradicts beyond tolerance, or that state, action and cameras lack."""
    cameras = {camera.key for camera in meta.cameras.values()}
    frames = [stop - start for start, stop in sorted(tables.spans.values())]

    def look(name: str) -> list[Deviation]:
        computed, stored = data[name], meta.statistics.get(name, {})
        if name in cameras:
            return _camera_deviations(name, stored, computed)
        # Quantiles are younger than the format: datasets without them are whole.
        needed = [stat for stat in computed if name in (STATE, ACTION) and not is_quantile(stat)]
        read = {stat: stored[stat].ravel() for stat in computed if stat in stored}
        lacking = [
            stat
            for stat in {**dict.fromkeys(needed), **read}
            if stat not in read or read[stat].size != len(computed[stat])
        ]
        found = _lacking(name, lacking, computed)
        column = tables.array(name)
        rows = flat(column, stored)
        fitting = {stat: values for stat, values in read.items() if stat not in lacking}
        lengths = [length * (len(rows) // len(column)) for length in frames]
        return found + wrong_statistics(name, fitting, rows, lengths, count=len(column))

    with ThreadPoolExecutor(jobs) as pool:
        return [one for found in pool.map(look, data) for one in found]


def _lacking(name: str, stats: Iterable[str], computed: Stored) -> list[Deviation]:
    return [Deviation(name, i, stat, None, float(value)) for stat in stats for i, value in enumerate(computed[stat])]


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
    return feature in INDEX_COLUMNS


def _camera_deviations(name: str, stored: Stored, computed: Stored) -> list[Deviation]:
    found = []
    for stat in ("mean", "std"):
        told, true = stored.get(stat), computed[stat].ravel()
        if told is None or np.size(told) != len(true):
            found += _lacking(name, [stat], {stat: true})
            continue
        far = np.flatnonzero(~(np.abs(told.ravel() - true) <= _CAMERA_TOLERANCE))
        found += [Deviation(name, int(i), stat, float(told.ravel()[i]), float(true[i])) for i in far]
    return found
