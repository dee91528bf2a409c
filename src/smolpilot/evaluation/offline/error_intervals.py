"""How far an offline error can be trusted: intervals over EPISODES, and the policy against floors, paired by episode.

Letters: N frames, H horizon, A joints, E episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolpilot.evaluation.metrics import AnyFloats, Floats
from smolpilot.evaluation.predictions import Predictions
from smolpilot.evaluation.rates.intervals import Interval, episode_bootstrap
from smolpilot.evaluation.rates.wording import ErrorComparison, compare_errors


@dataclass(frozen=True)
class ErrorIntervals:
    """95 % intervals of the mean absolute error; None where no spread can be told."""

    episodes: int
    overall: Interval | None  # averaged over the joints
    joints: list[Interval | None]  # [A]


@dataclass(frozen=True)
class AgainstFloor:
    """The policy's error minus a floor's, by episode; negative is the smaller error."""

    overall: ErrorComparison
    differences: list[float]  # [A]
    intervals: list[Interval | None]  # [A]


def error_intervals(scored: Predictions) -> ErrorIntervals:
    """Intervals of the policy's errors; all None for predictions that are not finite, which the verdict refuses."""
    sums, counts = _by_episode(scored, scored.predicted)
    return ErrorIntervals(
        episodes=len(sums),
        overall=_overall(sums, counts),
        joints=[_interval(sums[:, a], counts[:, a]) for a in range(sums.shape[1])],
    )


def against_floor(scored: Predictions, floor: AnyFloats, name: str) -> AgainstFloor | None:
    """The policy against chunks [N, H, A], or an action for all steps [N, 1, A]; None where an error has no number.

    name: of the floor in the text. Both are scored on the same steps, so the difference of an episode's sums is the
    difference of its errors.
    """
    own, counts = _by_episode(scored, scored.predicted)
    other, _ = _by_episode(scored, floor)
    if not (np.isfinite(own).all() and np.isfinite(other).all()):
        return None
    difference = own - other
    means = [float((sums.sum(axis=0) / counts.sum(axis=0)).mean()) for sums in (own, other)]
    compared = compare_errors(
        ("the policy", name), (means[0], means[1]), _overall(difference, counts), len(own), scored.unit
    )
    return AgainstFloor(
        overall=compared,
        differences=[float(one) for one in difference.sum(axis=0) / counts.sum(axis=0)],
        intervals=[_interval(difference[:, a], counts[:, a]) for a in range(own.shape[1])],
    )


def _by_episode(scored: Predictions, chunks: AnyFloats) -> tuple[Floats, Floats]:
    """Sums of absolute errors and numbers of steps, both [E, A]; what is not finite makes its sum so."""
    error = np.abs(np.asarray(chunks, np.float64) - scored.target)
    inside = np.where(scored.is_pad[:, :, None], 0.0, error).sum(axis=1)  # [N, A]
    steps = (~scored.is_pad).sum(axis=1)
    _, place = np.unique(scored.episode_index, return_inverse=True)
    sums, counts = np.zeros((place.max() + 1, inside.shape[1])), np.zeros(place.max() + 1)
    np.add.at(sums, place, inside)
    np.add.at(counts, place, steps)
    return sums, np.repeat(counts[:, None], inside.shape[1], axis=1)


def _overall(sums: Floats, counts: Floats) -> Interval | None:
    """Every joint counts the same number of steps, so that the mean over joints is one ratio, too."""
    return _interval(sums.mean(axis=1), counts[:, 0])


def _interval(sums: Floats, counts: Floats) -> Interval | None:
    found = episode_bootstrap(sums, counts)
    return found if np.isfinite(found).all() else None
