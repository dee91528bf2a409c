"""One page for the whole way: training curve, held-out errors, closed loop with its video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic

from .html_report import LEGEND, METRICS, PANELS, inline, percent, render
from .offline.plots import training_curve
from .rollout.results import VIDEO, failure_text, read_document, read_results


def write_demo_report(
    out: Path,
    *,
    eval_dir: Path,
    rollouts: dict[str, Path],
    train_metrics_path: Path | None = None,
    commands: Sequence[str] = (),
    title: str = "smolpilot demo: from recording to robot",
) -> Path:
    """Write the self-contained page `out` from finished folders; returns `out`.

    eval_dir: of `smolpilot eval`. rollouts: name -> folder of `smolpilot rollout`; the first one's video comes first.
    train_metrics_path: metrics.jsonl of the run. Raises UsageError when a folder is not what it should be.
    """
    document = read_document(eval_dir, METRICS)
    results = {name: read_results(folder) for name, folder in rollouts.items()}
    videos = [
        {"name": name, "data": inline((folder / VIDEO).read_bytes())}
        for name, folder in rollouts.items()
        if (folder / VIDEO).is_file()
    ]
    labels = {label: failure_text(result, label) for result in results.values() for label in result["failures"]}
    page = render(
        "demo.html.j2",
        labels=labels,
        goal=next((result["goal"] for result in results.values()), ""),
        title=title,
        subtitle=f"{document['split']['text']}; {document['machine']['device']}",
        verdicts=[_sentence(name, result) for name, result in results.items()],
        main_video=videos[0]["data"] if videos else None,
        video_text=f"{_capital(videos[0]['name'])}: the first episodes. {LEGEND}" if videos else "",
        more_videos=videos[1:],
        rollouts=results,
        training=_training(train_metrics_path),
        document=document,
        panels=inline((eval_dir / PANELS).read_bytes()),
        commands=list(commands),
    )
    write_text_atomic(out, page)
    return out


def _sentence(name: str, result: dict[str, Any]) -> dict[str, Any]:
    low, high = (percent(end) for end in result["interval"])
    rate = percent(result["success_rate"])
    failed = [f"{failure_text(result, label)} in {count}" for label, count in result["failures"].items()]
    text = (
        f"{_capital(name)}: success in {rate} of {result['episodes']} fresh episodes (95 % interval "
        f"{low.removesuffix(' %')} to {high})" + (f"; {', '.join(failed)}" if failed else "") + "."
    )
    # Untrained weights and baselines are there to fail.
    floor = result["untrained"] or result.get("bundle", {}).get("kind") == "baseline"
    return {"text": text, "good": (result["success_rate"] >= 0.5) != bool(floor)}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _training(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # the torn last line of a run that was killed
    steps = [line for line in lines if line.get("kind") == "train" and "loss" in line]
    if not steps:
        return None
    scores = [line for line in lines if line.get("kind") == "validation"]
    first, last = steps[0], steps[-1]
    text = f"Loss {first['loss']:.3g} at step {first['step']}, {last['loss']:.3g} at step {last['step']}."
    if last.get("samples_per_s"):
        text += f" {last['samples_per_s']:.0f} samples a second."
    return {"image": inline(training_curve(steps, scores)), "text": text}
