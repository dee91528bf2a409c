"""The charts of a robot run, each with the CSV behind it."""

from __future__ import annotations

import math

import numpy as np

from smolpilot.evaluation.reports import formats
from smolpilot.evaluation.reports.charts import Axis, Chart, Figure, axis_of, strip_rows
from smolpilot.evaluation.reports.report_page import Plots
from smolpilot.evaluation.reports.texts import Text, say

from .measures import CLAMPS, EpisodeMeasures, Rows, RunMeasures, RunTable

_BINS = 120  # stretches of the time line, bars of a histogram at most
_BARS = 40
_MOST_SEAMS = 60  # drawn as lines; more of them would hide the motion


def clamp_chart(found: RunMeasures, table: RunTable, plots: Plots) -> Figure | None:
    """In which part of each stretch of time each joint was clamped; None without ticks."""
    line, header = found.clamp_line, table.log.header
    if not len(line.seconds):
        return None
    columns = [f"{name} {flag}" for flag in CLAMPS for name in header.joints]
    by_flag = np.concatenate(list(line.by_flag), axis=1)
    rows = np.column_stack([line.seconds, line.ticks, by_flag]).tolist()
    csv = plots.write("clamps", ["second", "ticks", *columns], rows)
    end = float(line.seconds[-1]) + 1
    width = max(1, math.ceil(end / _BINS))
    begins, place = np.unique(line.seconds // width, return_inverse=True)
    ticks, clamped = np.zeros(len(begins)), np.zeros((len(begins), table.joints))
    np.add.at(ticks, place, line.ticks)
    np.add.at(clamped, place, line.clamped)
    shares = clamped / ticks[:, None]
    drawn = [
        (
            name,
            [
                (float(begin * width), float((begin + 1) * width), float(share))
                for begin, share in zip(begins, shares[:, a], strict=True)
                if share > 0
            ],
        )
        for a, name in enumerate(header.joints)
    ]
    starts = [float(table.sent_at[one.rows[0]] - table.sent_at[0]) for one in found.episodes if len(one.rows)]
    svg = strip_rows(drawn, Axis(say("axis.run_time"), 0, end), "clamped", marks=[("seam thin", one) for one in starts])
    legend: list[tuple[str, Text]] = [
        ("clamped", say("legend.clamp_share", seconds=width)), ("seam", say("legend.episode_start")),
    ]  # fmt: skip
    return Figure(say("plot.clamps"), svg, legend, csv)


def motion_charts(table: RunTable, episode: EpisodeMeasures) -> list[Figure]:
    """Commanded and measured positions over the time of an episode, a chart for each joint."""
    rows, header = episode.rows, table.log.header
    times = table.sent_at[rows] - table.sent_at[rows[0]]
    seams = seam_times(table, episode)
    charts = []
    for a, (name, unit) in enumerate(zip(header.joints, header.units, strict=True)):
        commanded, measured = table.commanded[rows, a], table.measured[rows, a]
        label = say("axis.position", unit=unit)
        chart = Chart(axis_of(say("axis.time"), [times]), axis_of(label, [commanded, measured]), height=190)
        if len(seams) <= _MOST_SEAMS:
            chart.uprights(seams, "seam thin")
        chart.line(times, measured, "truth")
        chart.line(times, commanded, "policy")
        clamped = table.clamps[:, rows, a].any(axis=0)
        if clamped.any():
            chart.points(*_few(times[clamped], commanded[clamped]), "clamped")
        jerks = (episode.jerk_commanded[a], episode.jerk_measured[a])
        commanded_jerk, measured_jerk = (formats.number(None if one != one else float(one), 3) for one in jerks)
        note = say("run.jerk_note", commanded=commanded_jerk, measured=measured_jerk, unit=unit)
        charts.append(Figure(name, chart.svg(), note=note))
    return charts


def motion_legend(found: RunMeasures, seams: int) -> list[tuple[str, Text]]:
    """What the lines of the motion's charts are."""
    lines: list[tuple[str, Text]] = [
        ("policy", say("legend.would_be_commanded" if found.dry_run else "legend.commanded")),
        ("truth", say("legend.measured")),
    ]
    if seams <= _MOST_SEAMS:
        lines.append(("seam", say("legend.seam")))
    return [*lines, ("clamped dot", say("legend.clamped"))]


def motion_table(table: RunTable, episode: EpisodeMeasures, plots: Plots) -> str:
    """The CSV file behind the charts of an episode."""
    rows, names = episode.rows, table.log.header.joints
    both = np.stack([table.commanded[rows], table.measured[rows]], axis=2).reshape(len(rows), -1)
    times = table.sent_at[rows] - table.sent_at[rows[0]]
    seam = np.isin(rows, table.seams).astype(int)
    header = ["tick", "time_s", "seam", *(f"{name} {what}" for name in names for what in ("commanded", "measured"))]
    columns = (table.numbers[rows], times.round(6), seam, both.round(6))
    lines = zip(*(column.tolist() for column in columns), strict=True)
    return plots.write(f"motion_episode_{episode.number}", header, ([*first, *own] for *first, own in lines))


def seam_times(table: RunTable, episode: EpisodeMeasures) -> Rows:
    """When in the episode another chunk began, in seconds."""
    rows = np.intersect1d(table.seams, episode.rows)
    times: Rows = table.sent_at[rows] - table.sent_at[episode.rows[0]]
    return times


def age_chart(ages: Rows, name: str, plots: Plots) -> Figure | None:
    """How old what was acted on was when the command was sent; name: of the text and the file. None without ages."""
    held = 1000 * ages[np.isfinite(ages)]
    if not len(held):
        return None
    marks = {"p50": float(np.median(held)), "p95": float(np.percentile(held, 95))}
    return _histogram(held, marks, name, plots, say("axis.age_ms"), log=False)


def late_chart(found: RunMeasures, late: Rows, plots: Plots) -> Figure | None:
    """How late in its period each command was sent. None without ticks."""
    if not len(late):
        return None
    held = 1000 * late
    marks = {"p50": float(np.median(held)), "p99": float(np.percentile(held, 99)), "period": 1000 / found.rate}
    return _histogram(held, marks, "lateness", plots, say("axis.late_ms"), log=True)


def _histogram(held: Rows, marks: dict[str, float], name: str, plots: Plots, label: Text, *, log: bool) -> Figure:
    """Bars of equal width from 0 on; log: counts on a logarithmic axis, so that single ticks are seen."""
    high = max(float(held.max()), *marks.values()) * 1.03 or 1.0
    counts, edges = np.histogram(held, np.linspace(min(0.0, float(held.min())), high, _BARS + 1))
    rows = np.column_stack([edges[:-1].round(4), edges[1:].round(4)]).tolist()
    csv = plots.write(name, ["from_ms", "to_ms", "ticks"], ([*row, n] for row, n in zip(rows, counts, strict=True)))
    most = float(counts.max())
    y = Axis(say("axis.ticks"), 0, 1.1 * most, whole=True)
    if log:
        y = Axis(say("axis.ticks_log"), 0.6, 1.6 * most, log=True)
    chart = Chart(Axis(label, float(edges[0]), high), y)
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            chart.bar(float(left), float(right), float(count), "plan")
    for kind, value in marks.items():
        chart.upright(value, kind)
    legend = [(kind, say(f"legend.{kind}", value=formats.milliseconds(value))) for kind, value in marks.items()]
    return Figure(say(f"plot.{name}"), chart.svg(), legend, csv)


def _few(x: Rows, y: Rows, most: int = 300) -> tuple[Rows, Rows]:
    every = max(1, -(-len(x) // most))
    return x[::every], y[::every]
