"""Results of a closed-loop run on disk: results.json, video.mp4 and report.html."""

from __future__ import annotations

from pathlib import Path

from smolpilot.evaluation.html_report import inline, policy_name, render
from smolpilot.evaluation.offline.summary import plain, to_json

from .closed_loop import RolloutResult
from .results import REPORT, RESULTS, VIDEO, failure_text
from .tiled_video import write_video


def write_rollout_report(folder: Path, result: RolloutResult) -> None:
    """Write the results into the existing `folder`; the video only when runs kept their pictures."""
    (folder / RESULTS).write_text(to_json(result.document), encoding="utf-8")
    video = None
    if any(run.pictures for run in result.runs):
        write_video(folder / VIDEO, result.runs, result.spec.rate, result.spec.labels)
        video = inline((folder / VIDEO).read_bytes())
    document = plain(result.document)
    labels = {label: failure_text(document, label) for label in document["failures"]}
    facts = list(dict.fromkeys(name for run in document["runs"] for name in run["facts"]))
    page = render(
        "rollout.html.j2", result=document, name=policy_name(document), video=video, labels=labels, facts=facts
    )
    (folder / REPORT).write_text(page, encoding="utf-8")
