"""Statistics of features: the numbers that normalize states and actions, and how they are merged and saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .json_input import parse_json
from .text import shown

type Statistics = dict[str, dict[str, npt.NDArray[np.float64]]]

# Parts that are merged at once.
_BLOCK = 256

QUANTILES: dict[str, float] = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
# The last bits of float32 in which a parked joint flickers: far below what any encoder resolves.
_NOISE = 16 * 2.0**-23


def still_range(low: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The range [...] up to which values between `low` and `high` count as standing still: float noise, no motion."""
    largest = np.maximum(np.abs(np.asarray(low, np.float64)), np.abs(np.asarray(high, np.float64)))
    return np.asarray(np.maximum(1e-6, _NOISE * largest), dtype=np.float64)


def is_still(low: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether joints with these smallest and largest values [...] never move, but for float noise."""
    span = np.asarray(high, np.float64) - np.asarray(low, np.float64)
    return np.asarray(span <= still_range(low, high), dtype=np.bool_)


def array_statistics(values: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Exact statistics over the first axis of `values` `[N]` or `[N, D]`, in float64.

    Gives mean, population std, min, max, quantiles `[D]` and count `[1]`; raises ValueError when N is 0.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, None]
    if len(rows) == 0:
        raise ValueError("statistics need at least one row")
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "count": np.array([len(rows)], dtype=np.float64),
        **{name: quantiles[i] for i, name in enumerate(QUANTILES)},
    }


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of the union of several sets of frames.

    mean, std, min, max and count are exact; quantiles are the count-weighted mean of the parts' quantiles, an
    approximation, as LeRobot does it (lerobot/datasets/compute_stats.py, aggregate_feature_stats). A statistic
    that one of the parts lacks is left out. Raises DatasetError when the parts' shapes differ.
    """
    names = list(dict.fromkeys(name for part in parts for name in part))
    return {name: _merge_feature(name, [part[name] for part in parts if name in part]) for name in names}


def merge_fitting(parts: Iterable[Statistics]) -> Statistics:
    """Like `merge_statistics`, a block after the other, so that `parts` need not be in memory together.

    A feature whose parts do not fit each other is left out instead of an error.
    """
    merged: list[Statistics] = []
    unfit: set[str] = set()
    waiting = iter(parts)
    while block := list(islice(waiting, _BLOCK)):
        merged.append(_merge_block(block, unfit))
    found = merged[0] if len(merged) == 1 else _merge_block(merged, unfit)
    return {name: stats for name, stats in found.items() if name not in unfit}


def _merge_block(parts: Sequence[Statistics], unfit: set[str]) -> Statistics:
    grouped: dict[str, list[Statistics]] = {}
    for part in parts:
        for name, stats in part.items():
            grouped.setdefault(name, []).append({name: stats})
    found: Statistics = {}
    for name, same in grouped.items():
        try:
            found |= merge_statistics(same)
        except DatasetError:
            unfit.add(name)
    return found


@dataclass(frozen=True, slots=True)
class PackedStatistics:
    """Statistics in a tenth of their memory, for thousands of episodes: one array, and a layout that many share.

    `layout` names feature, statistic and shape of the values one after another.
    """

    layout: tuple[tuple[str, str, tuple[int, ...]], ...]
    values: npt.NDArray[np.float64]

    def unpack(self) -> Statistics:
        """The statistics, as views of the packed values."""
        found: Statistics = {}
        start = 0
        for name, key, shape in self.layout:
            stop = start + math.prod(shape)
            found.setdefault(name, {})[key] = self.values[start:stop].reshape(shape)
            start = stop
        return found


class StatisticsPacker:
    """Packs statistics; those of one make get the same layout."""

    def __init__(self) -> None:
        self._layouts: dict[Any, Any] = {}

    def pack(self, statistics: Statistics) -> PackedStatistics:
        """The statistics, packed."""
        rows = [
            (name, key, value.shape, value.ravel()) for name, one in statistics.items() for key, value in one.items()
        ]
        layout = tuple(row[:3] for row in rows)
        values = np.concatenate([row[3] for row in rows]) if rows else np.empty(0)
        return PackedStatistics(self._layouts.setdefault(layout, layout), values)


def statistics_to_json(statistics: Statistics) -> str:
    """The statistics as one JSON document, in LeRobot's layout of `meta/stats.json`."""
    return json.dumps(plain_statistics(statistics), indent=2)


def plain_statistics(statistics: Statistics) -> dict[str, dict[str, Any]]:
    """The statistics as JSON values."""
    return {name: {key: plain_value(key, value) for key, value in stats.items()} for name, stats in statistics.items()}


def plain_value(key: str, value: npt.NDArray[np.float64]) -> Any:
    """One statistic as JSON values; counts are whole numbers."""
    return [int(count) for count in np.atleast_1d(value)] if key == "count" else value.tolist()


def statistics_from_json(text: str | dict[str, Any]) -> Statistics:
    """Read statistics from JSON text, or from its parsed mapping; raises DatasetError when it holds no numbers."""
    try:
        raw = parse_json(text) if isinstance(text, str) else text
        found = {name: {key: statistic_values(value) for key, value in stats.items()} for name, stats in raw.items()}
        for name, stats in found.items():
            if stats.get("count", np.zeros(1)).size != 1:
                raise ValueError(f"the count of {shown(name)} is {stats['count'].size} numbers, not one")
        return found
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"The statistics cannot be read: {error}",
            expected="an object of features, each with lists of numbers under mean, std, min, max, count",
        ) from error


def statistic_values(value: Any) -> npt.NDArray[np.float64]:
    """One statistic as it stands in a file, as an array `[D]` or `[D, ...]`; null is NaN. ValueError for what holds no
    numbers, and for numbers that no float64 is.
    """
    try:
        found = np.atleast_1d(np.asarray(value))
        # numpy would read the text "5" as the number 5.
        if found.dtype.kind == "O" and all(part is None or isinstance(part, int | float) for part in found.flat):
            found = found.astype(np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"no numbers: {error}") from error
    if found.dtype.kind not in "fiub":
        raise ValueError(f"no numbers: {shown(value)}")
    return found.astype(np.float64)


def readable_statistics(raw: Any) -> Statistics:
    """Like `statistics_from_json`; what is no numbers is left out: statistics can be computed from the content."""
    found: Statistics = {}
    for name, stats in raw.items() if isinstance(raw, dict) else ():
        try:
            found |= statistics_from_json({name: stats})
        except DatasetError:
            continue
    return found


def _merge_feature(name: str, parts: list[dict[str, npt.NDArray[np.float64]]]) -> dict[str, npt.NDArray[np.float64]]:
    if len(parts) == 1:
        return {key: value.copy() for key, value in parts[0].items()}
    shapes = {part[key].shape for part in parts for key in part if key != "count"}
    if len(shapes) > 1:
        raise DatasetError(
            f"The statistics of '{name}' have different shapes: {sorted(shapes)}.",
            expected="the same dimensions in every part",
        )
    counted = {part["count"].shape for part in parts if "count" in part}
    if not counted <= {(1,)}:
        raise DatasetError(
            f"The statistics of '{name}' have a count of shape {sorted(counted)}.", expected="one number"
        )
    common = [key for key in parts[0] if all(key in part for part in parts)]
    merged: dict[str, npt.NDArray[np.float64]] = {}
    if "min" in common:
        merged["min"] = np.min([part["min"] for part in parts], axis=0)
    if "max" in common:
        merged["max"] = np.max([part["max"] for part in parts], axis=0)
    if "count" not in common:
        return merged
    counts = np.stack([part["count"] for part in parts])
    merged["count"] = counts.sum(axis=0)
    weights = counts[:, 0] / merged["count"][0]

    def weighted(values: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return np.asarray(np.tensordot(weights, np.stack(values), axes=1), dtype=np.float64)

    if "mean" in common:
        merged["mean"] = weighted([part["mean"] for part in parts])
    if "mean" in common and "std" in common:
        merged["std"] = np.sqrt(weighted([part["std"] ** 2 + (part["mean"] - merged["mean"]) ** 2 for part in parts]))
    for key in common:
        if key.startswith("q") and key[1:].isdigit():
            merged[key] = weighted([part[key] for part in parts])
    return merged
