"""How far two honest writers' statistics of the same numbers may lie apart; the rules of docs/dataset-checks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.statistics import QUANTILES

type Values = npt.NDArray[np.float64]
type Stored = Mapping[str, npt.NDArray[Any]]

# Relative, as a part of the feature's largest magnitude: statistics kept as float32 and printed with 5 digits or more.
TOLERANCE = 1e-5
_FLOAT32 = float(np.finfo(np.float32).eps)
# LeRobot widens its histograms by 1e-10 on both sides: a quantile of a constant is off by as much.
_FLOOR = 1e-9
# The variance as the mean of squares less the square of the mean, in float32, loses a few last places of the squares.
_VARIANCE = 16 * _FLOAT32
_QUANTILE = 0.1
_PICTURE = 0.01
# A stored statistic against the data: of the joint's standard deviation.
_OF_SPREAD = 0.01
# The unit roundoff of float32, in which LeRobot sums (lerobot/datasets/compute_stats.py, RunningQuantileStats).
_ROUNDOFF = 2.0**-24
_MANY = 65536
# Episodes: sorting each of more takes longer than it tells.
_EPISODES = 1000
# Of the rows: within that share of ranks beside a quantile, a histogram's answer may be the neighboring value.
_RANKS = 0.02


def magnitude(*sides: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64] | float:
    """The largest finite magnitude of each dimension by `min` and `max`; 1 where neither side has them."""
    values = [np.abs(side[key].ravel()) for side in sides for key in ("min", "max") if key in side]
    if not values:
        return 1.0
    if len({len(value) for value in values}) > 1:
        return float(max(np.nan_to_num(value, posinf=0.0).max(initial=0.0) for value in values))
    return np.asarray(np.max(np.nan_to_num(np.stack(values), posinf=0.0), axis=0), dtype=np.float64)


def count_of(*sides: Mapping[str, npt.NDArray[Any]]) -> float:
    """The number of values that a statistic was summed over; 1 where it is not stated."""
    counts = [float(side["count"].ravel()[0]) for side in sides if "count" in side and side["count"].size]
    return max([count for count in counts if np.isfinite(count)], default=1.0)


def within_rounding(
    key: str, mine: Values, theirs: Values, scale: Values | float, count: float, tolerance: float = TOLERANCE
) -> npt.NDArray[np.bool_]:
    """Where two values of a statistic are the same number but for a writer's arithmetic, `[D]`.

    `scale` is the dimension's magnitude, `count` the number of values: float32 sums of n values are off by about
    sqrt(n) times 1.2e-7 of it. Standard deviations may also differ as far as their squares are lost in rounding:
    that of a constant is 0 or noise. Counts are exact. NaN equals NaN.
    """
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    if key == "count":
        return np.asarray(same, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        off = np.abs(mine - theirs)
        allowed = (tolerance + _FLOAT32 * np.sqrt(count)) * scale + _FLOOR
        close = same | (off <= allowed) | (off <= tolerance * np.abs(theirs))
        if key == "std":
            close |= np.abs(mine**2 - theirs**2) <= _VARIANCE * np.square(scale)
    return np.asarray(close, dtype=np.bool_)


def within_method(
    key: str, mine: Values, theirs: Values, spread: Values | float, picture: bool, *, merged: bool = False
) -> npt.NDArray[np.bool_]:
    """Where two values differ no more than two ways of computing them do, `[D]`.

    Quantiles out of histograms are within a tenth of the range `spread`; `merged` from those of episodes, as LeRobot
    does it, they may be anywhere in it. Images are counted over other frames and pixels: of values from 0 to 1, mean
    and std within 0.01, and any count.
    """
    with np.errstate(invalid="ignore"):
        if picture:
            if key in ("mean", "std"):
                return np.asarray(np.abs(mine - theirs) <= _PICTURE, dtype=np.bool_)
            # A pixel more or less decides about the darkest and the brightest.
            return np.ones(mine.shape, dtype=np.bool_)
        if is_quantile(key):
            return np.asarray(np.abs(mine - theirs) <= (1.0 if merged else _QUANTILE) * spread + _FLOOR, dtype=np.bool_)
    return np.zeros(mine.shape, dtype=np.bool_)


def is_quantile(key: str) -> bool:
    """Whether a statistic is a quantile: `q01`, `q99`, …"""
    return len(key) == 3 and key.startswith("q") and key[1:].isdigit()


@dataclass(frozen=True)
class TrueStatistics:
    """Statistics `[D]` of the data, and how far a writer's may be from them by rounding: `square` that of std²."""

    values: Mapping[str, Values]
    scale: Values
    mean: Values
    square: Values
    rows: int

    def allowed(self, name: str) -> Values:
        """How far the stored statistic may be from the true one."""
        room: Values = _OF_SPREAD * self.scale
        if name == "mean":
            room = room + self.mean
        elif name == "std":
            true = self.values["std"]
            # Divided by n - 1 instead of n; and by cancellation, which a constant joint shows most.
            sample = true * (np.sqrt(self.rows / max(self.rows - 1, 1)) - 1)
            cancelled: Values = np.sqrt(true**2 + self.square) - true
            room = room + sample + np.maximum(cancelled, true - np.sqrt(np.maximum(true**2 - self.square, 0)))
        return room


def true_statistics(values: Values, summed: int) -> TrueStatistics:
    """Mean, std, min, max of `values` `[N, D]`, and what float32 makes of sums over `summed` rows, one after another.

    A sum of n numbers of one sign is off by up to a sixth of n roundoffs (each addition rounds, and mostly to the same
    side); the mean square less the squared mean by half of n. Twice that is allowed, and the rounding of a few
    operations. A moving joint does not get the room of more rows than a large file has: it would hide errors.
    """
    largest = np.abs(values).max(axis=0)
    spread = values.std(axis=0)
    scale = np.maximum(spread, 1e-6 + 1e-4 * largest)
    squares = (values**2).mean(axis=0)
    rows = np.where(spread**2 > 1e-6 * squares, min(summed, _MANY), summed)
    found = {name: getattr(values, name)(axis=0) for name in ("mean", "std", "min", "max")}
    mean = (rows / 3 + 8) * _ROUNDOFF * np.abs(values).mean(axis=0)
    return TrueStatistics(found, scale, mean, (rows + 32) * _ROUNDOFF * squares, len(values))


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


def wrong_statistics(
    feature: str,
    stored: Stored,
    values: npt.NDArray[Any],
    lengths: Sequence[int],
    *,
    count: int,
    quantile: float = _QUANTILE,
) -> list[Deviation]:
    """Stored statistics `[D]` of a feature that `values` `[N, D]` contradict, in the order of `stored`.

    What a writer's float32 sums and rounded digits do is no contradiction. A quantile may be anywhere that one merged
    from those of the episodes, of so many rows (`lengths`), can be; `quantile` is the share of the range by which a
    histogram may be off. `count` is the right count. Works joint by joint, to save memory.
    """
    found = []
    if count != stored.get("count", [count])[0]:
        found.append(Deviation(feature, 0, "count", float(stored["count"][0]), count))
    for place in range(values.shape[1]):
        column = np.asarray(values[:, place : place + 1], dtype=np.float64)
        true = true_statistics(column, len(column))
        for name, told in stored.items():
            if name in true.values:
                exact = float(true.values[name][0])
                low, high = exact - float(true.allowed(name)[0]), exact + float(true.allowed(name)[0])
            elif is_quantile(name):
                exact = float(np.quantile(column, QUANTILES[name]))
                room = float(quantile * np.ptp(column) + _OF_SPREAD * true.scale[0])
                low, high = exact - room, exact + room
                if not low <= told[place] <= high:
                    first, last = quantile_band(column, lengths, QUANTILES[name])
                    low, high = min(low, first - room), max(high, last + room)
            else:
                continue
            if not low <= told[place] <= high:
                found.append(Deviation(feature, place, name, float(told[place]), exact))
    order = list(stored)
    return sorted(found, key=lambda one: order.index(one.stat))


def unlike(one: float, other: float) -> tuple[str, str]:
    """Two different numbers in as few digits as tell them apart."""
    for digits in (4, 6, 9, 17):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def flat(column: npt.NDArray[Any], stored: Stored) -> npt.NDArray[Any]:
    """The rows `[M, D]` over which the statistics of a column `[N, …]` are made.

    LeRobot (compute_stats.py, RunningQuantileStats.update) puts the rows of a matrix, and of a tensor, among those of
    all frames: D is its last dimension. Where the stored statistics have an entry per place, D is all places.
    """
    per_place = "mean" in stored and stored["mean"].size == column[0].size
    if column.ndim > 2 and not per_place:
        return column.reshape(-1, column.shape[-1])
    return column.reshape(len(column), -1)


def quantile_band(column: Values, lengths: Sequence[int], share: float) -> tuple[float, float]:
    """The least and the greatest value that a quantile made from coarse histograms of episodes can have.

    Matters where values jump (grippers, flags): there the exact quantile of half the rows is any value between.
    """
    if len(lengths) > _EPISODES:
        return float(column.min()), float(column.max())
    weights = np.array(lengths, dtype=np.float64)
    bounds = np.stack([beside_quantile(rows, share) for rows in np.split(column[:, 0], np.cumsum(lengths)[:-1])])
    low, high = weights @ bounds / weights.sum()
    return float(low), float(high)


def beside_quantile(rows: npt.NDArray[Any], share: float) -> npt.NDArray[np.float64]:
    """The values `[2, …]` beside a quantile: out of a histogram, or of few or jumping numbers, either is honest."""
    room = max(_RANKS, 1 / len(rows))
    at = np.clip([share - room, share + room], 0, 1)
    values = np.asarray(rows, dtype=np.float64)
    low = np.quantile(values, at[0], axis=0, method="lower")
    return np.stack([low, np.quantile(values, at[1], axis=0, method="higher")])
