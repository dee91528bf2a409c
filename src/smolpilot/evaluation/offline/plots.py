"""Figures of an offline evaluation: the six panels, and one per joint. All return PNG bytes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smolpilot.common.text import pluralize
from smolpilot.evaluation.drawing import caption, drawing, log_scale, png
from smolpilot.evaluation.predictions import Predictions, Trajectory, trajectory, typical_episode

# Okabe and Ito's palette: told apart by color-blind readers, and in print.
TRUTH, PREDICTED, PLAN, HOLD, MEAN = "#1a1a1a", "#d55e00", "#56b4e9", "#009e73", "#cc79a7"
PANEL_SIZE = (18.0, 10.0)  # inches
_DPI = 100
_SCATTER_POINTS = 4000
_PLANS_DRAWN = 40


@drawing()
def panels(scored: Predictions, document: dict[str, Any]) -> bytes:
    """The six panels: latency, the first two joints over an episode, error per joint, two scatter plots."""
    figure = Figure(figsize=PANEL_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots(2, 3)
    shown = trajectory(scored, typical_episode(scored))
    _latency(axes[0, 0], document.get("latency"))
    _error_per_joint(axes[1, 0], document)
    for joint, (above, below) in enumerate(axes[:, 1:].T):
        if joint < len(scored.joints):
            _trajectory(above, scored, shown, joint)
            above.set_title(f"{caption(scored.joints[joint])}, episode {shown.episode}", pad=20)
            _scatter(below, scored, joint)
        else:
            _empty(above, "the robot has one joint")
            _empty(below, "the robot has one joint")
    frames, episodes = document["frames"], len(document["episodes"])
    figure.suptitle(
        f"{frames} scored frames of {pluralize(episodes, 'episode')}, chunks of {scored.horizon}, "
        f"robot units; {document['verdict']['text'].split(':')[0]}",
        fontsize=13,
    )
    return png(figure)


def _latency(axes: Axes, latency: dict[str, Any] | None) -> None:
    axes.set_title("Latency of a chunk, single frames")
    if latency is None:
        _empty(axes, "not measured")
        return
    chunk, pop = latency["chunk"], latency["queue_pop"]
    axes.hist(chunk["samples_ms"], bins=min(25, max(5, chunk["count"] // 2)), color=PLAN, edgecolor="white")
    axes.axvline(chunk["p50_ms"], color=TRUTH, label=f"p50 {chunk['p50_ms']:.3g} ms")
    axes.axvline(chunk["p95_ms"], color=PREDICTED, linestyle="--", label=f"p95 {chunk['p95_ms']:.3g} ms")
    if pop["p50_ms"] is not None:
        axes.plot([], [], " ", label=f"queue pop, apart: p50 {pop['p50_ms']:.3g} ms")
    axes.set(xlabel=f"ms per chunk ({chunk['count']} chunks after {latency['warm_up']} to warm up)", ylabel="chunks")
    axes.legend(fontsize=9)


def _trajectory(axes: Axes, scored: Predictions, shown: Trajectory, joint: int, *, plans: bool = False) -> None:
    if plans:
        step = max(1, -(-len(shown.plans) // _PLANS_DRAWN))
        for i, (times, chunk) in enumerate(shown.plans[::step]):
            axes.plot(times, chunk[:, joint], color=PLAN, linewidth=0.7, alpha=0.55, label="_chunks" if i else "chunks")
    axes.plot(shown.times, shown.truth[:, joint], color=TRUTH, linewidth=1.8, label="recorded")
    label = f"predicted, planned anew every {_frames(scored.execution_horizon)}"
    axes.plot(shown.times, shown.executed[:, joint], color=PREDICTED, linewidth=1.3, label=label)
    axes.set(xlabel="time in the episode (s)", ylabel=f"{caption(scored.joints[joint])} ({scored.units[joint]})")
    _legend_above(axes, side="left")
    axes.grid(alpha=0.25)
    _frame_values(axes, shown, joint)


def _frame_values(axes: Axes, shown: Trajectory, joint: int) -> None:
    """Limit the axis to what matters: one wild plan must not flatten the recorded motion."""
    recorded = shown.truth[:, joint]
    values = np.concatenate([recorded, shown.executed[:, joint]])
    values = values[np.isfinite(values)]
    span = max(float(np.ptp(recorded)), 1e-3 * max(1.0, float(np.abs(recorded).max())))
    low = max(float(values.min()), float(recorded.min()) - 3 * span)
    high = min(float(values.max()), float(recorded.max()) + 3 * span)
    margin = 0.08 * max(high - low, span)
    axes.set_ylim(low - margin, high + margin)


def _error_per_joint(axes: Axes, document: dict[str, Any]) -> None:
    joints = document["joints"]
    places = np.arange(len(joints))
    values = np.array([[joint[key] for joint in joints] for key in ("mae", "hold_mae", "mean_action_mae")], dtype=float)
    axes.bar(places, values[0], 0.7, color=PREDICTED, alpha=0.85, label="policy")
    size = 7 if len(joints) <= 32 else 4
    if np.isfinite(values[1]).any():
        axes.plot(places, values[1], "_", color=HOLD, markersize=size + 3, markeredgewidth=2.2, label="hold the state")
    if np.isfinite(values[2]).any():
        axes.plot(places, values[2], "x", color=MEAN, markersize=size, markeredgewidth=1.8, label="mean action")
    fonts = 9 if len(joints) <= 12 else 7 if len(joints) <= 32 else 5
    names = [caption(joint["name"], 18) for joint in joints]
    if len({joint["unit"] for joint in joints}) > 1:
        names = [f"{name} ({joint['unit']})" for name, joint in zip(names, joints, strict=True)]
    axes.set_xticks(places, names, rotation=90 if len(joints) > 4 else 0, fontsize=fonts)
    # Joints of very different reach (a gripper in 0..100 beside angles in rad) need a logarithmic axis to be seen.
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive) and positive.max() / np.median(positive) > 50:
        log_scale(axes)
    axes.set(title="Error per joint, all horizon steps", xlabel="joint", ylabel=f"MAE ({document['unit']})")
    axes.legend(fontsize=9)
    axes.grid(axis="y", alpha=0.25)


def _scatter(axes: Axes, scored: Predictions, joint: int) -> None:
    inside = ~scored.is_pad
    truth, predicted = scored.target[inside][:, joint], scored.predicted[inside][:, joint]
    step = max(1, -(-len(truth) // _SCATTER_POINTS))
    axes.plot(
        truth[::step], predicted[::step], ".", color=PREDICTED, markersize=3, alpha=0.35, label="one step of a chunk"
    )
    ends = np.array([truth.min(), truth.max()], dtype=float)
    pad = 0.05 * max(float(np.ptp(ends)), 1e-6)
    ends += [-pad, pad]
    axes.plot(ends, ends, color=TRUTH, linewidth=1, label="perfect")
    name, unit = caption(scored.joints[joint]), scored.units[joint]
    axes.set(xlabel=f"recorded {name} ({unit})", ylabel=f"predicted {name} ({unit})")
    axes.set_title(f"{name}, all horizon steps")
    axes.legend(fontsize=9, loc="upper left")
    axes.grid(alpha=0.25)


def _by_step(
    axes: Axes, own: list[Any], hold: list[Any] | None, mean: list[Any] | None, unit: str, execution_horizon: int
) -> None:
    steps = np.arange(1, len(own) + 1)
    axes.plot(steps, np.array(own, dtype=float), color=PREDICTED, marker="." if len(own) < 25 else "", label="policy")
    for values, color, style, label in ((hold, HOLD, "--", "hold the state"), (mean, MEAN, ":", "mean action")):
        if values is not None and np.isfinite(np.array(values, dtype=float)).any():
            axes.plot(steps, np.array(values, dtype=float), color=color, linestyle=style, label=label)
    if execution_horizon < len(own):
        axes.axvspan(0.5, execution_horizon + 0.5, color="#000000", alpha=0.05, label="executed", linewidth=0)
    axes.set(xlim=(0.5, len(own) + 0.5), ylim=(0, None), xlabel="horizon step", ylabel=f"MAE ({unit})")
    _legend_above(axes)
    axes.grid(alpha=0.25)


def _legend_above(axes: Axes, *, side: Literal["left", "right"] = "right") -> None:
    """One line above the axes: it hides nothing, and no best place has to be searched among thousands of points."""
    corner = (1.0 if side == "right" else 0.0, 1.0)
    axes.legend(
        fontsize=8, ncols=4, loc="lower left" if side == "left" else "lower right", bbox_to_anchor=corner,
        frameon=False, borderaxespad=0.2, columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip


def _frames(count: int) -> str:
    return "frame" if count == 1 else f"{count} frames"


def _empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#666666")
    axes.set(xticks=[], yticks=[])
