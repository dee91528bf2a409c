"""What a sequence of stages kept: the matrix R[i, j], forgetting and backward transfer, each with its interval.

R[i, j] is the result on task j after stage i, the mean over the task's held-out (or simulated) episodes. Intervals
are 95 % percentile bootstraps over episodes; a difference between two stages draws the same episodes for both, because
both were scored on the same ones. Source: Lopez-Paz and Ranzato 2017 (backward transfer), Chaudhry et al. 2018
(forgetting), with signs turned for errors: forgetting above 0 is a loss, backward transfer above 0 a gain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Values = Sequence[Sequence[Floats]]  # [after stage i][task j <= i]: one number per episode


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where there are fewer than two episodes."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Kept:
    """What the last stage left of the tasks before it, by task and as the mean over them."""

    forgetting: list[Estimate]
    backward_transfer: list[Estimate]
    mean_forgetting: Estimate
    mean_backward_transfer: Estimate


def matrix(values: Values, resamples: int, seed: int = 0) -> list[list[Estimate]]:
    """R[i][j] for j up to i."""
    return [[_estimate(_means(own), len(own), resamples, seed) for own in row] for row in values]


def kept(values: Values, resamples: int, *, higher_is_better: bool, seed: int = 0) -> Kept | None:
    """Forgetting and backward transfer after the last stage; None when there is only one.

    Forgetting of task j: the best result of any earlier stage minus the last. Backward transfer: the last result minus
    that right after stage j. Both counted so that a better policy is the positive direction (for errors: turned).
    """
    last = len(values) - 1
    if last < 1:
        return None
    sign = 1.0 if higher_is_better else -1.0
    tasks = [  # [stages, episodes] each
        np.stack([sign * values[stage][task] for stage in range(task, last + 1)]) for task in range(last)
    ]
    episodes = [rows.shape[1] for rows in tasks]
    forgetting, mean_forgetting = _over_tasks([_losses(rows) for rows in tasks], episodes, resamples, seed)
    transfer, mean_transfer = _over_tasks([_gains(rows) for rows in tasks], episodes, resamples, seed)
    return Kept(forgetting, transfer, mean_forgetting, mean_transfer)


Statistic = Callable[[npt.NDArray[np.int64]], Floats]  # episode numbers [..., K] -> [...]


def _means(values: Floats) -> Statistic:
    return lambda draw: np.asarray(values[draw].mean(axis=-1))


def _losses(rows: Floats) -> Statistic:
    return lambda draw: rows[:-1, draw].mean(axis=-1).max(axis=0) - rows[-1, draw].mean(axis=-1)


def _gains(rows: Floats) -> Statistic:
    return lambda draw: rows[-1, draw].mean(axis=-1) - rows[0, draw].mean(axis=-1)


def _estimate(statistic: Statistic, episodes: int, resamples: int, seed: int) -> Estimate:
    value = float(statistic(np.arange(episodes)))
    if episodes < 2:
        return Estimate(value, None)
    return Estimate(value, _interval(statistic(_draws(episodes, resamples, seed))))


def _over_tasks(
    statistics: Sequence[Statistic], episodes: Sequence[int], resamples: int, seed: int
) -> tuple[list[Estimate], Estimate]:
    """A statistic of each task, and the mean over tasks; their episodes are drawn independently."""
    tasks = list(zip(statistics, episodes, itertools.count(seed), strict=False))
    single = [_estimate(statistic, count, resamples, own) for statistic, count, own in tasks]
    value = float(np.mean([one.value for one in single]))
    if min(episodes) < 2:
        return single, Estimate(value, None)
    drawn = [statistic(_draws(count, resamples, own)) for statistic, count, own in tasks]
    return single, Estimate(value, _interval(np.mean(drawn, axis=0)))


def _draws(episodes: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, episodes, size=(resamples, episodes))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
