"""The form in which LeRobot states statistics of a column, and how far its quantiles may be from exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.statistics import QUANTILES

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
