"""What looks wrong in a set of predictions: scale, range, limits, NaN. Each finding is one sentence with a fix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolpilot.common.statistics import is_still, still_range
from smolpilot.evaluation.metrics import Floats, Ranges
from smolpilot.evaluation.predictions import Predictions

SPAN_RATIO = (0.2, 5.0)  # predicted span / recorded span that passes without a word
_APART = 0.5  # gap between predictions and recording, in ranges of the joint
_STILL = 0.05  # of the range in training: a joint that moves less in the scored episodes says nothing about scale
_OUTSIDE_LIMITS = 0.01  # share of predictions
_LISTED = 6  # joints named before "and N more"


@dataclass(frozen=True)
class Suspects:
    """Joints, by number, whose predictions have a suspicious scale or place."""

    low: list[int]  # span too small
    high: list[int]  # span too large
    apart: list[int]  # predictions and recording do not overlap

    @property
    def all(self) -> set[int]:
        return {*self.low, *self.high, *self.apart}


def find_suspects(scored: Predictions, found: Ranges) -> Suspects:
    """Compare spans on joints that move in the scored episodes; a still joint's noise is no yardstick."""
    # Float noise of a parked joint is no range that a prediction could be measured by.
    recorded = np.where(is_still(found.target_min, found.target_max), 0.0, found.target_max - found.target_min)
    trained = recorded if scored.trained_span is None else _moving_span(scored)
    usual = np.fmax(recorded, trained)
    predicted = found.predicted_max - found.predicted_min
    moves = np.isfinite(found.span_ratio) & (recorded >= _STILL * trained)
    gap = np.maximum(found.predicted_min - found.target_max, found.target_min - found.predicted_max)
    return Suspects(
        low=np.flatnonzero(moves & (found.span_ratio < SPAN_RATIO[0])).tolist(),
        high=np.flatnonzero((usual > 0) & (predicted > SPAN_RATIO[1] * usual)).tolist(),
        apart=np.flatnonzero((usual > 0) & (gap > _APART * usual)).tolist(),
    )


def _moving_span(scored: Predictions) -> Floats:
    """The range of each joint in training, 0 where that is float noise around the recorded values."""
    assert scored.trained_span is not None
    noise = still_range(scored.recorded.min(axis=0), scored.recorded.max(axis=0))
    return np.where(scored.trained_span <= noise, 0.0, scored.trained_span)


def find_warnings(scored: Predictions, found: Ranges, nan: int, infinite: int) -> list[str]:
    """The findings, gravest first; an empty list when all is well."""
    findings = []
    if nan or infinite:
        findings.append(
            f"{nan} predicted values are NaN and {infinite} infinite. Such a policy must not run on a robot: check the "
            "training loss and the statistics of the bundle."
        )
    suspects = find_suspects(scored, found)
    low, high, apart = suspects.low, suspects.high, suspects.apart
    moving = int(np.isfinite(found.span_ratio).sum())
    if moving and max(len(low), len(high), len(apart)) * 2 > moving:
        findings.append(
            f"The scale looks wrong on most joints ({max(len(low), len(high), len(apart))} of {moving}): are units and "
            "statistics those of this dataset? Actions that were never un-normalized look like this."
        )
    if low:
        findings.append(
            f"Predictions span less than {SPAN_RATIO[0]:g} of the recorded range on {_names(scored, found, low)}: the "
            "policy hardly moves there, or its scale is wrong."
        )
    if high:
        findings.append(
            f"Predictions span more than {SPAN_RATIO[1]:g} times the recorded range on {_names(scored, found, high)}: "
            "the scale is wrong, or the policy is untrained."
        )
    if apart:
        findings.append(
            f"Predictions and recording do not overlap on {_names(scored, None, apart)}: an offset, a swapped sign "
            "or a wrong joint order."
        )
    over = [a for a, share in enumerate(found.outside_limits) if share > _OUTSIDE_LIMITS]
    if over:
        shares = ", ".join(f"{scored.joints[a]} {found.outside_limits[a]:.0%}" for a in over[:_LISTED])
        findings.append(f"Predictions lie outside the robot's position limits: {shares}{_more(over)} of the time.")
    return findings


def _names(scored: Predictions, found: Ranges | None, joints: list[int]) -> str:
    def name(joint: int) -> str:
        ratio = float("nan") if found is None else found.span_ratio[joint]
        return scored.joints[joint] + (f" (×{ratio:.2g})" if np.isfinite(ratio) else "")

    return ", ".join(name(joint) for joint in joints[:_LISTED]) + _more(joints)


def _more(joints: list[int]) -> str:
    return f" and {len(joints) - _LISTED} more" if len(joints) > _LISTED else ""
