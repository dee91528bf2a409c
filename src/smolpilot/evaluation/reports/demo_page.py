"""The page of a whole demo: closed loops, training, and the errors on held-out demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.atomic import write_text_atomic
from smolpilot.evaluation.rollout.results import VIDEO, failure_text, read_document, read_results

from .charts import Chart, Figure, axis_of
from .episode_videos import Videos
from .offline_page import METRICS, eval_parts
from .report_page import Plots, capital, json_lines, render
from .rollout_page import rates_chart
from .sentences import loop_sentence
from .texts import Both, Text, joined, say


def write_demo_report(
    out: Path,
    *,
    eval_dir: Path,
    rollouts: Mapping[str, Path],
    train_metrics_path: Path | None = None,
    commands: Sequence[str] = (),
    title: str | None = None,
    chinese: Mapping[str, str] | None = None,
) -> Path:
    """Write the self-contained page `out` from finished folders, and the CSV files behind its charts; returns `out`.

    eval_dir: of `smolpilot eval`. rollouts: name -> folder of `smolpilot rollout`; the first one's video comes first.
    train_metrics_path: metrics.jsonl of the run. chinese: what names of rollouts are called on the Chinese page.
    Raises UsageError when a folder is not what it should be.
    """
    document = read_document(eval_dir, METRICS)
    names: dict[str, Text] = {name: Both(capital(name), (chinese or {}).get(name, name)) for name in rollouts}
    results = {name: read_results(folder) for name, folder in rollouts.items()}
    plots, videos = Plots(out.parent), Videos(out.parent)
    shown = [(names[name], video) for name, folder in rollouts.items() if (video := videos.show(folder / VIDEO))]
    loops = [
        {**result, "name": names[name], "role": _role(result), "sentence": loop_sentence(names[name], result),
         "good": (result["success_rate"] >= 0.5) != (_role(result) == "floor")}
        for name, result in results.items()
    ]  # fmt: skip
    page = render(
        "demo.html.j2",
        title=say("demo.title") if title is None else title,
        goal=next((result["goal"] for result in results.values()), ""),
        loops=loops,
        labels={label: failure_text(result, label) for result in results.values() for label in result["failures"]},
        rates=rates_chart(loops, plots, "success", say("plot.success")) if loops else None,
        videos=shown,
        training=_training(train_metrics_path, plots),
        document=document,
        commands=list(commands),
        **eval_parts(document, plots),
    )
    write_text_atomic(out, page)
    return out


def _role(result: Mapping[str, Any]) -> str:
    # Untrained weights and baselines are there to fail.
    return "floor" if result["untrained"] or result.get("bundle", {}).get("kind") == "baseline" else "policy"


def _training(path: Path | None, plots: Plots) -> dict[str, Any] | None:
    lines = json_lines(path)
    steps = [line for line in lines if line.get("kind") == "train" and "loss" in line]
    if not steps:
        return None
    scores = [line for line in lines if line.get("kind") == "validation"]
    first, last = steps[0], steps[-1]
    text = say(
        "demo.loss", first=f"{first['loss']:.3g}", begin=first["step"], last=f"{last['loss']:.3g}", end=last["step"]
    )
    if last.get("samples_per_s"):
        text = joined(text, say("demo.speed", speed=f"{last['samples_per_s']:.0f}"))
    return {"text": text, "charts": [_loss(steps, plots), *_scores(scores, plots)]}


def _loss(steps: Sequence[Mapping[str, Any]], plots: Plots) -> Figure:
    where = np.array([line["step"] for line in steps], dtype=np.float64)
    loss = np.array([line["loss"] for line in steps], dtype=np.float64)
    csv = plots.write("training_loss", ["step", "loss"], zip(where.tolist(), loss.tolist(), strict=True))
    chart = Chart(axis_of(say("axis.training_step"), [where]), axis_of(say("axis.loss"), [loss], log=True))
    chart.line(where, loss, "plan")
    legend: list[tuple[str, Text]] = [("plan", say("legend.loss"))]
    window = max(1, len(loss) // 20)
    if window > 1:
        mean = np.convolve(loss, np.ones(window) / window, "valid")
        chart.line(where[window - 1 :], mean, "truth")
        legend.append(("truth", say("legend.mean_of", n=window)))
    return Figure(say("plot.loss"), chart.svg(), legend, csv)


def _scores(scores: Sequence[Mapping[str, Any]], plots: Plots) -> list[Figure]:
    key = next((name for name in ("score", "mae") if scores and isinstance(scores[0].get(name), int | float)), None)
    if key is None:
        return []
    held = [(line["step"], line[key]) for line in scores if isinstance(line.get(key), int | float)]
    where, values = zip(*held, strict=True)
    csv = plots.write("held_out_error", ["step", "error"], held)
    unit = str(scores[0].get("unit", ""))
    chart = Chart(
        axis_of(say("axis.training_step"), [where]), axis_of(say("axis.error", unit=unit), [values], zero=True)
    )
    chart.line(where, values, "policy")
    chart.points(where, values, "policy")
    return [Figure(say("plot.held_out"), chart.svg(), [("policy", say("legend.held_out"))], csv)]
