"""metrics.json, panels.png, report.html and the CSV files behind its charts, of an offline evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolpilot.evaluation.offline.metrics_document import to_json
from smolpilot.evaluation.offline.plots import panels
from smolpilot.evaluation.offline.suspects import SPAN_RATIO
from smolpilot.evaluation.predictions import Predictions, trajectory, typical_episode

from . import offline_charts
from .offline_charts import motion_order, motion_shares
from .report_page import REPORT, Plots, policy_name, render
from .sentences import eval_tone, eval_verdict, split_sentence
from .texts import say

METRICS, PANELS = "metrics.json", "panels.png"
_OPEN = 6  # joints that are shown at once; the others are folded


def write_eval_report(
    folder: Path,
    scored: Predictions,
    document: dict[str, Any],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write metrics.json, panels.png, plots/*.csv and report.html into the existing `folder`.

    `progress(what, done, total)` is called as the charts are drawn, one per joint.
    """
    (folder / METRICS).write_text(to_json(document), encoding="utf-8")
    (folder / PANELS).write_bytes(panels(scored, document))
    plots = Plots(folder)
    shown = trajectory(scored, typical_episode(scored))
    order, shares = motion_order(document), motion_shares(document)
    joints = []
    for done, a in enumerate(order):
        charts = offline_charts.joint_charts(scored, document, a, shown)
        joints.append({**document["joints"][a], "share": shares[a], "charts": charts})
        if progress is not None:
            progress("drawing", done + 1, len(order))
    page = render(
        "eval.html.j2",
        document=document,
        name=policy_name(document),
        joints=joints,
        open_joints=_OPEN,
        joint_legend=offline_charts.joint_legend(document),
        joint_files=offline_charts.joint_tables(scored, shown, plots),
        scatter=offline_charts.scatter(scored, order[:2], plots),
        shown_episode=shown.episode,
        instruction=scored.instructions.get(shown.episode),
        span_ratio=SPAN_RATIO,
        **eval_parts(document, plots),
    )
    (folder / REPORT).write_text(page, encoding="utf-8")


def eval_parts(document: dict[str, Any], plots: Plots) -> dict[str, Any]:
    """What a page shows of an evaluation's document alone."""
    latency = document.get("latency")
    return {
        "eval_verdict": eval_verdict(document),
        "split": split_sentence(document),
        "eval_tone": eval_tone(document),
        "by_joint": offline_charts.error_by_joint(document, plots),
        "by_step": offline_charts.error_by_step(document, plots),
        "sorted_joints": [document["joints"][a] for a in motion_order(document)],
        "latency_chart": None
        if latency is None
        else offline_charts.latency_chart(
            latency["chunk"]["samples_ms"], plots, document["fps"], document["execution_horizon"], "latency",
            say("plot.latency"), say("axis.chunks"),
        ),
    }  # fmt: skip
