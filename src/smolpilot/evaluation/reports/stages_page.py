"""report.html of a sequence of stages: what it has kept of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.atomic import write_text_atomic

from .charts import Axis, Chart, Figure, axis_of
from .report_page import REPORT, Plots, render
from .sentences import stages_verdict
from .texts import Text, say

_KINDS = 6  # lines that look different


def write_stages_page(folder: Path, document: dict[str, Any]) -> None:
    """Write report.html and the CSV files behind its charts beside report.json, whose document is given."""
    plots = Plots(folder)
    blocks = []
    for key in ("error", "success"):
        if document[key] is not None:
            blocks.append({"key": key, "unit": "%" if key == "success" else document["unit"],
                           "scale": 100 if key == "success" else 1, **document[key],
                           "chart": _chart(document, key, plots)})  # fmt: skip
    page = render(
        "stages.html.j2",
        document=document,
        verdict=stages_verdict(document),
        blocks=blocks,
        title=" → ".join(document["tasks"]),
    )
    write_text_atomic(folder / REPORT, page)


def _chart(document: Mapping[str, Any], key: str, plots: Plots) -> Figure:
    """One line for each task over the stages, with its intervals."""
    tasks, matrix = document["tasks"], document[key]["matrix"]
    scale = 100 if key == "success" else 1
    rows = [
        [tasks[stage], tasks[task], one["value"], *(one["interval"] or (None, None))]
        for stage, row in enumerate(matrix)
        for task, one in enumerate(row)
    ]
    csv = plots.write(f"stages_{key}", ["after_stage", "task", "value", "low", "high"], rows)
    ends = [scale * value for row in rows for value in row[2:] if value is not None]
    label = say("axis.success") if key == "success" else say("axis.error", unit=document["unit"])
    y = Axis(label, 0, 105) if key == "success" else axis_of(label, [ends], zero=True)
    chart = Chart(Axis(say("axis.stage"), -0.4, len(tasks) - 0.6), y)
    legend: list[tuple[str, Text]] = []
    for task, name in enumerate(tasks):
        kind = f"series-{task % _KINDS}"
        _line(chart, [row[task] for row in matrix[task:]], task, len(tasks), scale, kind)
        legend.append((kind, name))
    return Figure(say(f"plot.stages_{key}"), chart.svg([*enumerate(tasks)]), legend, csv)


def _line(chart: Chart, column: Sequence[Mapping[str, Any]], task: int, count: int, scale: float, kind: str) -> None:
    # Side by side, so that intervals of equal results do not hide each other.
    places = np.arange(task, task + len(column)) + 0.05 * (task - (count - 1) / 2)
    values = scale * np.array([one["value"] for one in column], dtype=np.float64)
    chart.line(places, values, kind)
    chart.points(places, values, kind)
    for place, one in zip(places, column, strict=True):
        if one["interval"]:
            low, high = one["interval"]
            chart.whisker(float(place), scale * low, scale * high, f"{kind} thin")
