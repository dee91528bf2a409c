"""The charts of an offline evaluation, each with the CSV behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.evaluation.predictions import Predictions, Trajectory

from . import formats
from .charts import Axis, Chart, Figure, Row, axis_of, bar_rows
from .report_page import Plots
from .texts import Text, say

_SCATTER = 500  # points of a scatter chart
_CHUNKS, _CHUNK_POINTS = 24, 24  # drawn of an episode, and of each
_BASELINES = (("hold", "hold_mae"), ("mean", "mean_action_mae"))


def motion_shares(document: dict[str, Any]) -> list[float]:
    """How much each joint moves in the scored episodes, as a share: its recorded range over the range between its
    position limits; for a joint without limits over the largest recorded range of all joints in its unit.
    """
    spans, shares = [], []
    for joint in document["joints"]:
        low, high = joint["range"]["recorded"]
        spans.append(high - low if low is not None and high is not None else 0.0)
    largest: dict[str, float] = {}
    for joint, span in zip(document["joints"], spans, strict=True):
        largest[joint["unit"]] = max(largest.get(joint["unit"], 0.0), span)
    for joint, span in zip(document["joints"], spans, strict=True):
        limits = joint["range"]["limits"]
        whole = limits[1] - limits[0] if limits else largest[joint["unit"]]
        shares.append(span / whole if whole > 0 and math.isfinite(whole) else 0.0)
    return shares


def motion_order(document: dict[str, Any]) -> list[int]:
    """The joints, those that move most first."""
    shares = motion_shares(document)
    return sorted(range(len(shares)), key=lambda joint: -shares[joint])


def error_by_joint(document: dict[str, Any], plots: Plots) -> list[Figure]:
    """Error per joint against both baselines, a chart for each unit: errors in different units have no common axis."""
    joints = [document["joints"][joint] for joint in motion_order(document)]
    keys = ("mae", "hold_mae", "mean_action_mae")
    csv = plots.write("error_by_joint", ["joint", "unit", *keys], [
        [joint["name"], joint["unit"], *(joint[key] for key in keys)] for joint in joints
    ])  # fmt: skip
    found = []
    for unit in dict.fromkeys(joint["unit"] for joint in joints):
        own = [joint for joint in joints if joint["unit"] == unit]
        rows = [
            Row(joint["name"], "policy", joint["mae"], marks=[(kind, joint[key]) for kind, key in _BASELINES])
            for joint in own
        ]
        axis = axis_of(say("axis.mae", unit=unit), [_column(own, key) for key in keys], zero=True)
        found.append(Figure(say("plot.error_by_joint", unit=unit), bar_rows(rows, axis), _legend(own), csv))
    return found


def error_by_step(document: dict[str, Any], plots: Plots) -> Figure:
    """Error by horizon step, averaged over joints."""
    steps = document["by_step"]
    averages = [steps[key] for key in ("mean_mae", "hold_mean_mae", "mean_action_mean_mae")]
    names = [joint["name"] for joint in document["joints"]]
    header = ["step", "policy", "hold_state", "mean_action", *(f"{name} policy" for name in names)]
    rows = zip(steps["step"], *(one or [None] * len(steps["step"]) for one in averages), steps["mae"], strict=True)
    csv = plots.write("error_by_step", header, [[*row[:-1], *row[-1]] for row in rows])
    svg = _steps_chart(averages, document["unit"], document["execution_horizon"])
    kinds = [kind for kind, values in zip(("policy", "hold", "mean"), averages, strict=True) if values is not None]
    legend = [(kind, say(f"legend.{kind}")) for kind in kinds]
    return Figure(say("plot.error_by_step"), svg, [*legend, ("executed", say("legend.executed"))], csv)


def latency_chart(
    samples: Sequence[float], plots: Plots, rate: float | None, horizon: int, name: str, caption: Text, counted: Text
) -> Figure | None:
    """How long planning a chunk takes, ms, against the control period and the time that a chunk is executed for."""
    held = np.array([one for one in samples if one is not None and one > 0], dtype=np.float64)
    if not len(held):
        return None
    lines = {"p50": float(np.median(held)), "p95": float(np.percentile(held, 95))}
    if rate:
        lines |= {"period": 1000 / rate, "chunk": 1000 * horizon / rate}
    csv = plots.write(name, ["milliseconds"], [[one] for one in samples])
    x = axis_of(say("axis.ms"), [held, list(lines.values())], log=True)
    count = int(np.clip(len(held) // 2, 6, 40))
    low, high = float(held.min()) * 0.97, float(held.max()) * 1.03
    # Bars of at least the width that can be seen on this axis.
    widest = math.log(x.high / x.low) / 60
    count = max(1, min(count, int(math.log(high / low) / widest) or 1))
    edges = np.geomspace(low, high, count + 1)
    found, _ = np.histogram(held, edges)
    chart = Chart(x, Axis(counted, 0, float(found.max()) * 1.1, whole=True))
    for left, right, number in zip(edges, edges[1:], found, strict=False):
        chart.bar(float(left), float(right), float(number), "plan")
    for kind, value in lines.items():
        chart.upright(value, kind)
    legend: list[tuple[str, Text]] = [
        (kind, say(f"legend.{kind}", value=formats.milliseconds(value), n=horizon)) for kind, value in lines.items()
    ]
    return Figure(caption, chart.svg(), legend, csv)


def joint_charts(scored: Predictions, document: dict[str, Any], joint: int, shown: Trajectory) -> list[Figure]:
    """One joint: an episode with its plans, and the error by horizon step against both baselines."""
    unit = scored.units[joint]
    chart = Chart(axis_of(say("axis.time"), [shown.times]), _frame(scored, shown, joint), height=190)
    for times, plan in _drawn_plans(shown):
        chart.line(times, plan[:, joint], "plan thin")
    chart.line(shown.times, shown.truth[:, joint], "truth")
    chart.line(shown.times, shown.executed[:, joint], "policy")
    steps = document["by_step"]
    columns = [
        None if steps[key] is None else [row[joint] for row in steps[key]]
        for key in ("mae", "hold_mae", "mean_action_mae")
    ]
    by_step = _steps_chart(columns, unit, document["execution_horizon"], height=150)
    return [Figure(say("plot.trajectory"), chart.svg()), Figure(say("plot.joint_by_step"), by_step)]


def joint_tables(scored: Predictions, shown: Trajectory, plots: Plots) -> tuple[str, str]:
    """The CSV files behind the charts of all joints: the episode with what was executed, and the chunks drawn on it."""
    both = np.stack([shown.truth, shown.executed], axis=2).reshape(len(shown.times), -1)
    header = [f"{name} {what}" for name in scored.joints for what in ("recorded", "predicted")]
    rows = np.column_stack([shown.times, both]).round(6).tolist()
    lines = plots.write(f"episode_{shown.episode}", ["time_s", *header], rows)
    chunks = [
        [number, *row]
        for number, (times, plan) in enumerate(_drawn_plans(shown))
        for row in np.column_stack([times, plan]).round(6).tolist()
    ]
    return lines, plots.write(f"episode_{shown.episode}_chunks", ["chunk", "time_s", *scored.joints], chunks)


def scatter(scored: Predictions, joints: Sequence[int], plots: Plots) -> list[Figure]:
    """Predicted over recorded values, all horizon steps, a chart for each of the joints."""
    inside = ~scored.is_pad
    truth, predicted = scored.target[inside], scored.predicted[inside]
    every = max(1, -(-len(truth) // _SCATTER))
    truth, predicted = truth[::every], predicted[::every]
    names = [scored.joints[joint] for joint in joints]
    rows = np.stack([truth[:, joints], predicted[:, joints]], axis=2).reshape(len(truth), -1).tolist()
    csv = plots.write("scatter", [f"{name} {what}" for name in names for what in ("recorded", "predicted")], rows)
    found = []
    for joint in joints:
        own, other = truth[:, joint].astype(float), predicted[:, joint].astype(float)
        x = axis_of(say("axis.recorded", name=scored.joints[joint], unit=scored.units[joint]), [own])
        y = _around(own, other, say("axis.predicted", unit=scored.units[joint]))
        chart = Chart(x, y)
        chart.points(own, other, "policy")
        chart.line([x.low, x.high], [x.low, x.high], "truth")
        caption = say("plot.scatter", name=scored.joints[joint])
        legend: list[tuple[str, Text]] = [
            ("policy dot", say("legend.scatter", shown=len(own), all=int(inside.sum()))),
            ("truth", say("legend.perfect")),
        ]  # fmt: skip
        found.append(Figure(caption, chart.svg(), legend, csv))
    return found


def joint_legend(document: dict[str, Any]) -> list[tuple[str, Text]]:
    """What the lines of the joints' charts are."""
    joints = document["joints"]
    return [
        ("truth", say("legend.truth")), ("plan", say("legend.chunks")),
        ("policy", say("legend.stitched", n=document["execution_horizon"])), *_legend(joints)[1:],
        ("executed", say("legend.executed")),
    ]  # fmt: skip


def _legend(joints: Sequence[dict[str, Any]]) -> list[tuple[str, Text]]:
    kinds = [kind for kind, key in _BASELINES if any(joint[key] is not None for joint in joints)]
    return [("policy", say("legend.policy")), *((kind, say(f"legend.{kind}")) for kind in kinds)]


def _steps_chart(columns: Sequence[Sequence[Any] | None], unit: str, executed: int, *, height: int = 220) -> Any:
    held = [np.array(one, dtype=np.float64) for one in columns if one is not None]
    count = len(held[0])
    x = Axis(say("axis.step"), 0.5, count + 0.5, whole=True)
    chart = Chart(x, axis_of(say("axis.mae", unit=unit), held, zero=True), height=height)
    if executed < count:
        chart.span(0.5, executed + 0.5, "executed")
    for kind, values in zip(("policy", "hold", "mean"), columns, strict=True):
        if values is not None:
            chart.line(np.arange(1, count + 1), np.array(values, dtype=np.float64), kind)
    return chart.svg()


def _drawn_plans(shown: Trajectory) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    every = max(1, -(-len(shown.plans) // _CHUNKS))
    return [
        (times[:: max(1, -(-len(times) // _CHUNK_POINTS))], plan[:: max(1, -(-len(times) // _CHUNK_POINTS))])
        for times, plan in shown.plans[::every]
    ]


def _frame(scored: Predictions, shown: Trajectory, joint: int) -> Axis:
    # A joint may stand still in this episode, and still have a motion of a usual size.
    usual = 0.2 * float(np.ptp(scored.recorded[:, joint]))
    return _around(shown.truth[:, joint], shown.executed[:, joint], say("axis.value", unit=scored.units[joint]), usual)


def _around(recorded: npt.NDArray[Any], predicted: npt.NDArray[Any], label: Text, least: float = 0.0) -> Axis:
    """An axis that holds what matters: one wild plan must not flatten the recorded motion, which spans `least`."""
    own = np.asarray(recorded, dtype=np.float64)
    span = max(float(np.ptp(own)), least, 1e-3 * max(1.0, float(np.abs(own).max())))
    near = np.clip(predicted[np.isfinite(predicted)], own.min() - 3 * span, own.max() + 3 * span)
    return axis_of(label, [own, near])


def _column(joints: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [math.nan if joint[key] is None else joint[key] for joint in joints]
