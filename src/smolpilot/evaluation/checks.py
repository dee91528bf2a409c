"""What looks wrong in a set of predictions: scale, range, limits, NaN. Each finding is one sentence with a fix."""

from __future__ import annotations

import numpy as np

from smolpilot.metrics import Ranges

from .scored import Scored

SPAN_RATIO = (0.2, 5.0)  # predicted span / recorded span that passes without a word
_OUTSIDE_LIMITS = 0.01  # share of predictions
_LISTED = 6  # joints named before "and N more"


def find_warnings(scored: Scored, found: Ranges, nan: int, infinite: int) -> list[str]:
    """The findings, gravest first; an empty list when all is well."""
    findings = []
    if nan or infinite:
        findings.append(
            f"{nan} predicted values are NaN and {infinite} infinite. Such a policy must not run on a robot: check the "
            "training loss and the statistics of the bundle."
        )
    low = [a for a, ratio in enumerate(found.span_ratio) if ratio < SPAN_RATIO[0]]
    high = [a for a, ratio in enumerate(found.span_ratio) if ratio > SPAN_RATIO[1]]
    apart = [a for a in range(len(scored.joints)) if _apart(found, a)]
    moving = int(np.isfinite(found.span_ratio).sum())
    if moving and max(len(low), len(high), len(apart)) * 2 > moving:
        findings.append(
            f"The scale looks wrong on most joints ({max(len(low), len(high), len(apart))} of {moving}): are units and "
            "statistics those of this dataset? Actions that were never un-normalised look like this."
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


def _apart(found: Ranges, joint: int) -> bool:
    if not np.isfinite(found.span_ratio[joint]):
        return False
    return bool(
        found.predicted_min[joint] > found.target_max[joint] or found.predicted_max[joint] < found.target_min[joint]
    )


def _names(scored: Scored, found: Ranges | None, joints: list[int]) -> str:
    def name(joint: int) -> str:
        return scored.joints[joint] + (f" (×{found.span_ratio[joint]:.2g})" if found is not None else "")

    return ", ".join(name(joint) for joint in joints[:_LISTED]) + _more(joints)


def _more(joints: list[int]) -> str:
    return f" and {len(joints) - _LISTED} more" if len(joints) > _LISTED else ""
