"""The metrics document: every number of an offline evaluation, as plain JSON values."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from smolpilot.common.json_input import to_plain
from smolpilot.common.text import pluralize
from smolpilot.evaluation.metrics import Errors, Motion, Ranges, motion, ranges
from smolpilot.evaluation.predictions import Predictions
from smolpilot.evaluation.rates.wording import error_span, few_episodes_text

from .error_intervals import AgainstFloor, ErrorIntervals, against_floor, error_intervals
from .suspects import find_suspects, find_warnings

FORMAT = "smolpilot-eval/1"
HOLD, MEAN_ACTION = "holding the current state", "the mean action"


def summarize(scored: Predictions) -> dict[str, Any]:
    """Errors, baselines, verdict, ranges, motion and warnings. Lengths: A joints, H horizon steps; nan becomes null."""
    errors, hold, mean = scored.errors(), scored.hold_errors(), scored.mean_action_errors()
    spread = error_intervals(scored)
    floors = {
        "hold": against_floor(scored, scored.hold[:, None], HOLD) if hold is not None else None,
        "mean_action": against_floor(scored, scored.mean_action[None, None], MEAN_ACTION) if mean is not None else None,
    }
    found = ranges(scored.predicted, scored.target, scored.is_pad, scored.limits)
    moved = motion(scored.predicted, scored.is_pad, scored.fps), motion(scored.target, scored.is_pad, scored.fps)
    inside = scored.predicted[~scored.is_pad]
    nan, infinite = int(np.isnan(inside).sum()), int(np.isinf(inside).sum())
    document = {
        "format": FORMAT,
        "frames": len(scored.predicted),
        "episodes": [int(episode) for episode in np.unique(scored.episode_index)],
        "horizon": scored.horizon,
        "execution_horizon": scored.execution_horizon,
        "fps": scored.fps,
        "unit": scored.unit,
        "steps_scored": int(errors.steps.sum()),
        "mean_over_joints": {
            "mae": errors.mean_mae,
            "rmse": float(np.mean(errors.rmse)),
            "max": float(np.max(errors.max)),
        },
        "mae_interval": spread.overall,
        "few_episodes": few_episodes_text(spread.episodes) or None,
        "against_hold": _against(floors["hold"]),
        "against_mean_action": _against(floors["mean_action"]),
        "baselines": {"hold": _baseline(hold), "mean_action": _baseline(mean)},
        "verdict": _verdict(scored, errors, hold, mean, floors, spread),
        "joints": [
            _joint(scored, a, errors, hold, mean, found, moved)
            | {"mae_interval": spread.joints[a]}
            | {f"against_{name}": _joint_against(floor, a) for name, floor in floors.items()}
            for a in range(len(scored.joints))
        ],
        "by_step": _by_step(errors, hold, mean),
        "non_finite": {"nan": nan, "infinite": infinite},
        "warnings": find_warnings(scored, found, nan, infinite),
    }
    cleaned: dict[str, Any] = to_plain(document)
    return cleaned


def to_json(document: dict[str, Any]) -> str:
    """The document as JSON text; never NaN, which JSON does not know."""
    return json.dumps(to_plain(document), indent=2, allow_nan=False) + "\n"


def _baseline(errors: Errors | None) -> dict[str, Any]:
    if errors is None:
        return {"available": False, "mae": None, "rmse": None}
    return {"available": True, "mae": errors.mean_mae, "rmse": float(np.mean(errors.rmse))}


def _joint(
    scored: Predictions,
    a: int,
    errors: Errors,
    hold: Errors | None,
    mean: Errors | None,
    found: Ranges,
    moved: tuple[Motion, Motion],
) -> dict[str, Any]:
    predicted, target = moved
    return {
        "name": scored.joints[a],
        "unit": scored.units[a],
        "mae": errors.mae[a],
        "rmse": errors.rmse[a],
        "max": errors.max[a],
        "first_step_mae": errors.mae_by_step[0, a],
        "last_step_mae": errors.mae_by_step[-1, a],
        "hold_mae": None if hold is None else hold.mae[a],
        "mean_action_mae": None if mean is None else mean.mae[a],
        "range": {
            "predicted": [found.predicted_min[a], found.predicted_max[a]],
            "recorded": [found.target_min[a], found.target_max[a]],
            "limits": scored.limits[a],
            "span_ratio": found.span_ratio[a],
            "suspicious": a in find_suspects(scored, found).all,
            "share_outside_recorded": found.outside_target[a],
            "share_outside_limits": found.outside_limits[a],
        },
        "motion": {
            kind: {
                "predicted": getattr(predicted, kind)[a],
                "recorded": getattr(target, kind)[a],
                "unit": f"{scored.units[a]}/s{power}",
            }
            for kind, power in (("speed", ""), ("acceleration", "²"), ("jerk", "³"))
        },
    }


def _by_step(errors: Errors, hold: Errors | None, mean: Errors | None) -> dict[str, Any]:
    """Errors by horizon step h = 1..H; step h compares with the action h - 1 frames after the scored frame."""
    return {
        "step": list(range(1, len(errors.steps) + 1)),
        "frames": errors.steps,
        "mae": errors.mae_by_step,
        "rmse": errors.rmse_by_step,
        "mean_mae": errors.mae_by_step.mean(axis=1),
        "hold_mean_mae": None if hold is None else hold.mae_by_step.mean(axis=1),
        "mean_action_mean_mae": None if mean is None else mean.mae_by_step.mean(axis=1),
        "hold_mae": None if hold is None else hold.mae_by_step,
        "mean_action_mae": None if mean is None else mean.mae_by_step,
    }


def _against(floor: AgainstFloor | None) -> dict[str, Any] | None:
    """Error of the policy minus the floor's, with its interval over episodes; null where it cannot be computed."""
    if floor is None:
        return None
    found = floor.overall
    return {
        "difference": found.difference,
        "interval": found.interval,
        "decision": found.decision,
        "text": found.text,
    }


def _joint_against(floor: AgainstFloor | None, a: int) -> dict[str, Any] | None:
    """The same of a joint, without a decision: of many joints some would be told apart by chance."""
    return None if floor is None else {"difference": floor.differences[a], "interval": floor.intervals[a]}


def _verdict(
    scored: Predictions,
    errors: Errors,
    hold: Errors | None,
    mean: Errors | None,
    floors: dict[str, AgainstFloor | None],
    spread: ErrorIntervals,
) -> dict[str, Any]:
    """`beats_*`: the smaller MAE, averaged over joints; null when a baseline cannot be computed. The text says `better`
    only where the interval of the difference over episodes excludes 0."""
    joints = len(scored.joints)
    beats_hold, beats_mean = _beats(errors, hold), _beats(errors, mean)
    text = _verdict_text(errors.mean_mae, {HOLD: (hold, floors["hold"]), MEAN_ACTION: (mean, floors["mean_action"])})
    text = f"{text} ({scored.unit}, averaged over {pluralize(joints, 'joint')}; {_spread_text(spread)})"
    if errors.non_finite:
        text = "fails: predictions hold NaN or infinite values"
    return {
        "fails": bool(errors.non_finite),
        "beats_both": None if beats_hold is None or beats_mean is None else beats_hold and beats_mean,
        "beats_hold": beats_hold,
        "beats_mean_action": beats_mean,
        "joints_beating_hold": None if hold is None else int(np.sum(errors.mae < hold.mae)),
        "joints_beating_mean_action": None if mean is None else int(np.sum(errors.mae < mean.mae)),
        "text": text,
    }


def _beats(own: Errors, baseline: Errors | None) -> bool | None:
    """NaN predictions beat nothing; None when the baseline lacks a joint."""
    if baseline is None or math.isnan(baseline.mean_mae):
        return None
    return not own.non_finite and own.mean_mae < baseline.mean_mae


def _verdict_text(own: float, floors: dict[str, tuple[Errors | None, AgainstFloor | None]]) -> str:
    """By floor: its errors and the comparison with it."""
    known = {name: (one, found.overall.decision) for name, (one, found) in floors.items() if one and found}
    parts = [
        f"{_VERDICTS[decision]} {' and '.join(names)}"
        for decision in _VERDICTS
        if (names := [name for name, (_, decided) in known.items() if decided == decision])
    ]
    if not parts:
        return f"has MAE {own:.4g}; no baseline can be computed"
    against = " and ".join(f"{errors.mean_mae:.4g} of {name}" for name, (errors, _) in known.items())
    missing = [name for name in floors if name not in known]
    note = f"; {missing[0]} is n/a" if missing else ""
    return f"is {', and '.join(parts)}: MAE {own:.4g} against {against}{note}"


_VERDICTS = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}


def _spread_text(spread: ErrorIntervals) -> str:
    scored = pluralize(spread.episodes, "episode")
    said = (
        f"{scored}, no interval"
        if spread.overall is None
        else f"95 % interval {error_span(spread.overall)} over {scored}"
    )
    few = few_episodes_text(spread.episodes).rstrip(".")
    return f"{said}. {few}" if few else said
