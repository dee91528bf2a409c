"""How far two honest writers' statistics of the same numbers may lie apart; the rules of docs/dataset-checks.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

type Values = npt.NDArray[np.float64]

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
    key: str,
    mine: npt.NDArray[Any],
    theirs: npt.NDArray[Any],
    scale: npt.NDArray[np.float64] | float,
    count: float,
    tolerance: float = TOLERANCE,
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
    key: str,
    mine: npt.NDArray[Any],
    theirs: npt.NDArray[Any],
    spread: npt.NDArray[np.float64] | float,
    picture: bool,
    *,
    merged: bool = False,
) -> npt.NDArray[np.bool_]:
    """Where two values differ no more than two ways of computing them do, `[D]`.

    Quantiles out of histograms are within a tenth of the range `spread`; `merged` from those of episodes, as LeRobot
    does it, they may be anywhere in it. Pictures are counted over other frames and pixels: of values from 0 to 1, mean
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
        base: Values = _OF_SPREAD * self.scale
        if name == "mean":
            mean: Values = base + self.mean
            return mean
        if name == "std":
            true = self.values["std"]
            # Divided by n - 1 instead of n; and by cancellation, which a constant joint shows most.
            sample = true * (np.sqrt(self.rows / max(self.rows - 1, 1)) - 1)
            cancelled: Values = np.sqrt(true**2 + self.square) - true
            std: Values = base + sample + np.maximum(cancelled, true - np.sqrt(np.maximum(true**2 - self.square, 0)))
            return std
        return base


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
