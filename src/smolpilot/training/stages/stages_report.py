"""What a sequence of stages is judged by: report.json, report.md, report.png and report.html in its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.atomic import write_bytes_atomic, write_text_atomic
from smolpilot.common.text import plain
from smolpilot.evaluation import rate_interval
from smolpilot.evaluation.drawing import caption, drawing, png
from smolpilot.evaluation.reports import write_stages_page

from .forgetting import Estimate, kept, matrix
from .score import TaskScore

JSON, MARKDOWN, IMAGE = "report.json", "report.md", "report.png"
FORMAT = "smolpilot-stages/1"
Scores = Sequence[Sequence[TaskScore]]  # [after stage i][task j <= i]
References = Sequence[Mapping[str, TaskScore]]  # [task j][policy]


def write_report(
    out: Path, scores: Scores, lineage: Sequence[dict[str, Any]], resamples: int, references: References = ()
) -> dict[str, Any]:
    """Write the report of the stages so far; returns the document of report.json."""
    document = make_document(scores, lineage, resamples, references)
    write_text_atomic(out / JSON, json.dumps(document, indent=2) + "\n")
    write_text_atomic(out / MARKDOWN, markdown(document))
    write_bytes_atomic(out / IMAGE, image(document))
    write_stages_page(out, document)
    return document


def make_document(
    scores: Scores, lineage: Sequence[dict[str, Any]], resamples: int, references: References = ()
) -> dict[str, Any]:
    """The numbers of a report: one block for the action error, one for success where it was counted.

    references: for each task the other policies that were scored on it.
    """
    last = scores[-1]
    document: dict[str, Any] = {
        "format": FORMAT,
        "stages": list(lineage),
        "tasks": [score.name for score in last],
        "unit": last[0].unit,
        "held_out_episodes": [len(score.episodes) for score in last],
        "joints": [
            {"name": name, "unit": unit} for name, unit in zip(last[0].joints, last[0].joint_units, strict=True)
        ],
        "error": _block([[score.error for score in row] for row in scores], resamples, higher=False),
        # [after stage][task][joint], robot units
        "joint_mae": [[score.mae.mean(axis=0).tolist() for score in row] for row in scores],
        "resamples": resamples,
        "success": None,
    }
    if all(score.success is not None for row in scores for score in row):
        values = [[np.array(score.success, dtype=np.float64) for score in row] for row in scores]
        document["success"] = _block(values, resamples, higher=True)
        document["simulated_episodes"] = [len(score.success or []) for score in last]
    if names := dict.fromkeys(name for task in references for name in task):
        document["references"] = [_reference(name, references, resamples) for name in names]
    return document


def _reference(name: str, references: References, resamples: int) -> dict[str, Any]:
    """One policy beside the stages: an estimate for each task, None for those that it was not scored on."""
    error: list[Any] = []
    success: list[Any] = []
    for task in references:
        score = task.get(name)
        error.append(None if score is None else asdict(_estimates([[score.error]], resamples, higher=False)[0][0]))
        counted = None if score is None or score.success is None else np.array(score.success, dtype=np.float64)
        success.append(None if counted is None else asdict(_estimates([[counted]], resamples, higher=True)[0][0]))
    return {"policy": name, "error": error, "success": success}


def _estimates(values: Any, resamples: int, *, higher: bool) -> list[list[Estimate]]:
    rows = matrix(values, resamples)
    if not higher:
        return rows
    # Resampling 20 successes of 20 gives 100 to 100 %; the exact interval says what they prove.
    return [
        [Estimate(one.value, rate_interval(int(own.sum()), len(own))) for one, own in zip(row, counts, strict=True)]
        for row, counts in zip(rows, values, strict=True)
    ]


def _block(values: Any, resamples: int, *, higher: bool) -> dict[str, Any]:
    rows = _estimates(values, resamples, higher=higher)
    result: dict[str, Any] = {"matrix": [[asdict(one) for one in row] for row in rows]}
    left = kept(values, resamples, higher_is_better=higher)
    if left is not None:
        result |= asdict(left)
        if higher:
            result["kept"] = [
                rows[-1][task].value / rows[task][task].value if rows[task][task].value else None
                for task in range(len(rows) - 1)
            ]
    return result


def number_text(one: dict[str, Any] | None, unit: str) -> str:
    """`0.0481 (0.0402 to 0.0577)` for an estimate of the document; success as percent."""
    if one is None:
        return ""

    def shown(value: float) -> str:
        return f"{100 * value:.0f}" if unit == "%" else f"{value:#.3g}"

    own = shown(one["value"]) + (" %" if unit == "%" else "")
    return own if one["interval"] is None else f"{own} ({shown(one['interval'][0])} to {shown(one['interval'][1])})"


def tables(document: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) of each table of the report, as text."""
    tasks, found = document["tasks"], []
    for key, unit, title in (("error", document["unit"], f"Action error on held-out episodes ({document['unit']})"),
                             ("success", "%", "Success in simulation")):  # fmt: skip
        block = document[key]
        if block is None:
            continue
        text = partial(number_text, unit=unit)
        rows = [[name, *map(text, row), *[""] * (len(tasks) - len(row))]
                for name, row in zip(tasks, block["matrix"], strict=True)]  # fmt: skip
        rows += [[f"{one['policy']} (to compare)", *map(text, one[key])] for one in document.get("references", ())
                 if any(one[key])]  # fmt: skip
        found.append((f"{title}, mean and 95 % interval", ["after stage", *tasks], rows))
        if "forgetting" in block:
            columns = ["", *tasks[:-1], "mean"]
            lines = [
                ["forgetting", *map(text, block["forgetting"]), text(block["mean_forgetting"])],
                ["backward transfer", *map(text, block["backward_transfer"]), text(block["mean_backward_transfer"])],
            ]
            if "kept" in block:
                shares = ["" if share is None else f"{100 * share:.0f} %" for share in block["kept"]]
                lines.append(["kept of its success", *shares, ""])
            found.append((f"What is left of the earlier tasks, {title[0].lower()}{title[1:]}", columns, lines))
    return found


def markdown(document: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["# Stages in sequence", "", f"![results after each stage]({IMAGE})", ""]
    for title, columns, rows in tables(document):
        lines += [f"## {title}", "", _row(columns), f"|{' --- |' * len(columns)}"]
        lines += [*map(_row, rows), ""]
    lines += [
        "Forgetting: how far a task's last result lies behind its best earlier one; above 0 is a loss. Backward "
        "transfer: how much later stages changed it since it was learned; above 0 is a gain. Intervals: 95 % "
        "percentile bootstrap over episodes, the same episodes after every stage; of a success rate "
        "exact (Clopper-Pearson).",
        "",
        "## Stages",
        "",
        "| stage | dataset | episodes | steps | learning rate | replay | attempt |",
        "|" + " --- |" * 7,
    ]
    for stage in document["stages"]:
        replay = ", ".join(f"{share:g}" for share in stage["replay"])
        episodes = f"{len(stage['trained_episodes'])} trained, {len(stage['held_out_episodes'])} held out"
        cells = [stage["name"], f"{stage['dataset']} ({stage['dataset_fingerprint']})", episodes, stage["steps"],
                 f"{stage['lr']:.3g}", replay, stage["attempt"]]  # fmt: skip
        lines.append(_row(cells))
    return "\n".join([*lines, ""])


def _row(cells: Sequence[object]) -> str:
    """A row of a Markdown table; names in it are text: no columns, HTML, links or emphasis."""
    return f"| {' | '.join(re.sub(r'([\\`*\[\]<>|])', r'\\\1', plain(cell)) for cell in cells)} |"


@drawing()
def image(document: dict[str, Any]) -> bytes:
    """One curve for each task over the stages: its error, and its success where it was counted. PNG."""
    from matplotlib.figure import Figure

    tasks = document["tasks"]
    blocks = [(document["error"], f"action error ({document['unit']})", 1.0)]
    if document["success"] is not None:
        blocks.append((document["success"], "success in simulation (%)", 100.0))
    figure = Figure(figsize=(5.6 * len(blocks), 4.0), dpi=130, layout="constrained")
    for axes, (block, quantity, scale) in zip(figure.subplots(1, len(blocks), squeeze=False)[0], blocks, strict=True):
        for task, name in enumerate(tasks):
            column = [row[task] for row in block["matrix"][task:]]
            places = np.arange(task, len(tasks)) + 0.06 * (task - (len(tasks) - 1) / 2)
            values = scale * np.array([one["value"] for one in column])
            axes.plot(places, values, "o-", color=f"C{task}", markersize=4, label=caption(name))
            ends = [one["interval"] or (np.nan, np.nan) for one in column]
            axes.vlines(places, *(scale * np.array(ends).T), color=f"C{task}", linewidth=1.2, alpha=0.6)
        axes.set_xticks(range(len(tasks)), list(map(caption, tasks)))
        top = 105 if scale == 100 else None
        axes.set(xlim=(-0.4, len(tasks) - 0.6), ylim=(0, top), xlabel="after stage", ylabel=quantity)
        axes.grid(alpha=0.25)
        axes.legend(
            title="task (bars: 95 % interval)", fontsize=8, title_fontsize=8, ncols=len(tasks), frameon=False,
            loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2,
        )  # fmt: skip
    return png(figure)
