"""Error metrics of action chunks in robot units, in float64 by numpy alone.

Letters: N frames, H horizon, A joints. `is_pad` [N, H] marks the steps that lie behind the end of their episode
(LeRobot's `action_is_pad`); no metric counts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from smolpilot.common.statistics import is_still

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Errors:
    """Errors per joint over all steps inside their episode, and by horizon step; units are those of the inputs."""

    mae: Floats  # [A]
    rmse: Floats  # [A]
    max: Floats  # [A]
    mae_by_step: Floats  # [H, A]
    rmse_by_step: Floats  # [H, A]
    steps: Ints  # [H] frames that count at horizon step h
    non_finite: int  # predicted entries that are NaN or infinite: left out of the averages

    @property
    def mean_mae(self) -> float:
        """MAE averaged over the joints; nan when a joint has no finite prediction."""
        return float(np.mean(self.mae))


@dataclass(frozen=True)
class Motion:
    """How a set of chunks moves: mean absolute differences per joint, at `fps` frames a second."""

    speed: Floats  # [A] units/s
    acceleration: Floats  # [A] units/s^2: the roughness of the motion
    jerk: Floats  # [A] units/s^3


@dataclass(frozen=True)
class Ranges:
    """Where predictions lie against the recorded actions; all [A]."""

    predicted_min: Floats
    predicted_max: Floats
    target_min: Floats
    target_max: Floats
    span_ratio: Floats  # predicted span / target span; nan for a joint that never moves (but for float noise)
    outside_target: Floats  # share of predictions outside the recorded range
    outside_limits: Floats  # share outside the robot's position limits; nan where they are unknown


def chunk_targets(
    actions: AnyFloats, episode_index: npt.NDArray[np.integer], rows: npt.NDArray[np.integer], horizon: int
) -> tuple[npt.NDArray[np.float32], Bools]:
    """The recorded chunk of each row: `target[n, h]` is the action h frames after `rows[n]`, as LeRobot pads it.

    `actions` [F, A] and `episode_index` [F] are in dataset order. Returns float32 [N, H, A] and `is_pad` [N, H];
    behind the end of the episode the last action is repeated and marked.
    """
    episodes = np.asarray(episode_index)
    changes = np.flatnonzero(np.diff(episodes)) + 1
    ends = np.append(changes, len(episodes)).astype(np.int64)  # one past each episode's last row
    last = ends[np.searchsorted(ends, rows, side="right")] - 1
    wanted = np.asarray(rows, dtype=np.int64)[:, None] + np.arange(horizon)[None]
    is_pad = wanted > last[:, None]
    return np.asarray(actions, dtype=np.float32)[np.minimum(wanted, last[:, None])], is_pad


def chunk_errors(predicted: AnyFloats, target: AnyFloats, is_pad: Bools | None = None) -> Errors:
    """Compare predicted with recorded chunks [N, H, A]; ValueError when the shapes differ.

    Predicted NaN and infinities are counted and left out, so that one of them does not hide all other numbers.
    """
    chunks, recorded = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    inside = _inside(chunks, recorded, is_pad)
    finite = np.isfinite(chunks)
    counted = inside[:, :, None] & finite
    error = np.where(counted, np.abs(np.where(finite, chunks, 0.0) - recorded), 0.0)
    by_step = counted.sum(axis=0)  # [H, A]
    absolute, squared = error.sum(axis=0), np.square(error).sum(axis=0)
    entries = by_step.sum(axis=0)
    largest = error.max(axis=(0, 1)) if error.size else np.zeros(chunks.shape[2])
    return Errors(
        mae=_divide(absolute.sum(axis=0), entries),
        rmse=np.sqrt(_divide(squared.sum(axis=0), entries)),
        max=np.where(entries > 0, largest, np.nan),
        mae_by_step=_divide(absolute, by_step),
        rmse_by_step=np.sqrt(_divide(squared, by_step)),
        steps=inside.sum(axis=0).astype(np.int64),
        non_finite=int((inside[:, :, None] & ~finite).sum()),
    )


def motion(chunks: AnyFloats, is_pad: Bools | None, fps: float) -> Motion:
    """Speed, acceleration and jerk inside chunks [N, H, A]: finite differences over neighboring in-episode steps."""
    values = np.asarray(chunks, np.float64)
    inside = _inside(values, values, is_pad)[:, :, None] & np.isfinite(values)
    return Motion(*(_mean_difference(values, inside, order, fps) for order in (1, 2, 3)))


def ranges(
    predicted: AnyFloats,
    target: AnyFloats,
    is_pad: Bools | None = None,
    limits: list[tuple[float, float] | None] | None = None,
) -> Ranges:
    """Compare the range of predictions with the recorded range and with position limits (one pair or None a joint)."""
    chunks, recorded = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    inside = _inside(chunks, recorded, is_pad)
    values, truth = chunks[inside], recorded[inside]  # [M, A]
    finite = np.isfinite(values)
    low, high = _extremes(values, finite)
    target_low, target_high = _extremes(truth, np.isfinite(truth))
    span = target_high - target_low
    moves = (span > 0) & ~is_still(target_low, target_high)
    width = values.shape[1]
    bounds = limits if limits is not None else [None] * width
    outside_limits = np.array(
        [np.nan if pair is None else _outside(values[:, a], pair[0], pair[1]) for a, pair in enumerate(bounds)]
    )
    return Ranges(
        predicted_min=low,
        predicted_max=high,
        target_min=target_low,
        target_max=target_high,
        span_ratio=np.where(moves, _divide(high - low, np.where(moves, span, 1.0)), np.nan),
        outside_target=np.array([_outside(values[:, a], target_low[a], target_high[a]) for a in range(width)]),
        outside_limits=outside_limits,
    )


def _inside(predicted: Floats, target: Floats, is_pad: Bools | None) -> Bools:
    """The steps that count [N, H]; ValueError when the shapes do not fit together."""
    if predicted.ndim != 3 or predicted.shape != target.shape:
        raise ValueError(f"predicted has shape {predicted.shape}, target {target.shape}; both must be [N, H, A]")
    if is_pad is None:
        return np.ones(predicted.shape[:2], dtype=np.bool_)
    if is_pad.shape != predicted.shape[:2]:
        raise ValueError(f"is_pad has shape {is_pad.shape}, expected {predicted.shape[:2]}")
    return ~np.asarray(is_pad, dtype=np.bool_)


def _mean_difference(values: Floats, inside: Bools, order: int, fps: float) -> Floats:
    """Mean absolute `order`-th difference per joint, per second^order; nan when no window is long enough."""
    if values.shape[1] <= order:
        return np.full(values.shape[2], np.nan)
    whole = sliding_window_view(inside, order + 1, axis=1).all(axis=-1)
    difference = np.abs(np.diff(np.where(inside, values, 0.0), n=order, axis=1)) * fps**order
    return _divide(np.where(whole, difference, 0.0).sum(axis=(0, 1)), whole.sum(axis=(0, 1)))


def _extremes(values: Floats, finite: Bools) -> tuple[Floats, Floats]:
    """Smallest and largest finite value per joint; nan where there is none."""
    some = finite.any(axis=0)
    low = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def _outside(values: Floats, low: float, high: float) -> float:
    """Share of the finite values outside [low, high]; float32 rounding at the edge does not count."""
    finite = values[np.isfinite(values)]
    if not len(finite) or not np.isfinite([low, high]).all():
        return float("nan")
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    return float(np.mean((finite < low - slack) | (finite > high + slack)))


def _divide(total: Floats, count: npt.NDArray[np.number]) -> Floats:
    """total / count, nan where the count is zero."""
    share: Floats = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
    return share
