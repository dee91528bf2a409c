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
from smolpilot.evaluation.rates.intervals import Interval, episode_bootstrap

from .suspects import find_suspects, find_warnings

FORMAT = "smolpilot-eval/1"


def summarize(scored: Predictions) -> dict[str, Any]:
    """Errors, baselines, verdict, ranges, motion and warnings. Lengths: A joints, H horizon steps; nan becomes null."""
    errors, hold, mean = scored.errors(), scored.hold_errors(), scored.mean_action_errors()
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
            "interval": list(_interval(scored)),
            "rmse": float(np.mean(errors.rmse)),
            "max": float(np.max(errors.max)),
        },
        "baselines": {"hold": _baseline(hold), "mean_action": _baseline(mean)},
        "verdict": _verdict(scored, errors, hold, mean),
        "joints": [_joint(scored, a, errors, hold, mean, found, moved) for a in range(len(scored.joints))],
        "by_step": _by_step(errors, hold, mean),
        "non_finite": {"nan": nan, "infinite": infinite},
        "warnings": find_warnings(scored, found, nan, infinite),
    }
    cleaned: dict[str, Any] = to_plain(document)
    return cleaned


def to_json(document: dict[str, Any]) -> str:
    """The document as JSON text; never NaN, which JSON does not know."""
    return json.dumps(to_plain(document), indent=2, allow_nan=False) + "\n"


def _interval(scored: Predictions) -> Interval:
    """95 % interval of the MAE; whole episodes are drawn, because frames of one are no independent samples."""
    own = scored.errors_by_episode().values()
    steps = np.array([errors.steps.sum() for errors in own], dtype=np.float64)
    return episode_bootstrap(np.array([errors.mean_mae for errors in own]) * steps, steps)


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


def _verdict(scored: Predictions, errors: Errors, hold: Errors | None, mean: Errors | None) -> dict[str, Any]:
    """Beats both baselines on the MAE averaged over joints; null when a baseline cannot be computed."""
    own, joints = errors.mean_mae, len(scored.joints)
    beats_hold, beats_mean = _beats(errors, hold), _beats(errors, mean)
    text = _verdict_text(own, hold, mean, beats_hold, beats_mean)
    if errors.non_finite:
        text = "fails: predictions hold NaN or infinite values"
    return {
        "fails": bool(errors.non_finite),
        "beats_both": None if beats_hold is None or beats_mean is None else beats_hold and beats_mean,
        "beats_hold": beats_hold,
        "beats_mean_action": beats_mean,
        "joints_beating_hold": None if hold is None else int(np.sum(errors.mae < hold.mae)),
        "joints_beating_mean_action": None if mean is None else int(np.sum(errors.mae < mean.mae)),
        "text": f"{text} ({scored.unit}, averaged over {pluralize(joints, 'joint')})",
    }


def _beats(own: Errors, baseline: Errors | None) -> bool | None:
    """NaN predictions beat nothing; None when the baseline lacks a joint."""
    if baseline is None or math.isnan(baseline.mean_mae):
        return None
    return not own.non_finite and own.mean_mae < baseline.mean_mae


def _verdict_text(
    own: float, hold: Errors | None, mean: Errors | None, beats_hold: bool | None, beats_mean: bool | None
) -> str:
    baselines = [("holding the current state", hold, beats_hold), ("the mean action", mean, beats_mean)]
    known = [
        (name, errors.mean_mae, beats) for name, errors, beats in baselines if errors is not None and beats is not None
    ]
    missing = [name for name, _, beats in baselines if beats is None]
    won = [name for name, _, beats in known if beats]
    if len(known) == 2:
        head = {2: "beats both baselines", 0: "beats neither baseline"}.get(
            len(won), f"beats only {won[0] if won else ''}"
        )
    elif known:
        head = f"beats {known[0][0]}" if won else f"does not beat {known[0][0]}"
    else:
        return f"has MAE {own:.4g}; no baseline can be computed"
    against = " and ".join(f"{mae:.4g} of {name}" for name, mae, _ in known)
    note = f"; {missing[0]} is n/a" if missing else ""
    return f"{head}: MAE {own:.4g} against {against}{note}"
