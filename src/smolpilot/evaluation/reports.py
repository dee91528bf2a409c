"""Reports as single HTML files, with images and video inside: an evaluation, a rollout, a whole demo."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.json_input import to_plain
from smolpilot.common.text import base64_markup, page_environment
from smolpilot.datasets.splits import episode_ranges

from .offline.metrics_document import to_json
from .offline.plots import horizon_panel, joint_panel, panels, training_curve
from .offline.suspects import SPAN_RATIO
from .predictions import Predictions, trajectory, typical_episode
from .rollout.results import EPISODES, RESULTS, VIDEO, failure_text, read_document, read_results, run_document
from .rollout.tiled_video import write_video

if TYPE_CHECKING:
    from .rollout.closed_loop import RolloutResult

METRICS, PANELS, REPORT = "metrics.json", "panels.png", "report.html"
LEGEND = "Green: the episode was a success; red: it was not."


def write_eval_report(
    folder: Path,
    scored: Predictions,
    document: dict[str, Any],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write metrics.json, panels.png and report.html into the existing `folder`.

    `progress(what, done, total)` is called as the figures are drawn, one per joint.
    """
    (folder / METRICS).write_text(to_json(document), encoding="utf-8")
    drawn = panels(scored, document)
    (folder / PANELS).write_bytes(drawn)
    shown = trajectory(scored, typical_episode(scored))
    joints = []
    for a, joint in enumerate(document["joints"]):
        joints.append({**joint, "image": base64_markup(joint_panel(scored, document, a, shown))})
        if progress is not None:
            progress("drawing", a + 1, len(scored.joints))
    page = _render(
        "eval.html.j2",
        document=document,
        name=policy_name(document),
        panels=base64_markup(drawn),
        horizon=base64_markup(horizon_panel(scored, document)),
        joints=joints,
        shown_episode=shown.episode,
        instruction=scored.instructions.get(shown.episode),
        span_ratio=SPAN_RATIO,
    )
    (folder / REPORT).write_text(page, encoding="utf-8")


def write_rollout_report(folder: Path, result: RolloutResult) -> None:
    """Write the results into the existing `folder`; the video only when runs kept their images."""
    (folder / RESULTS).write_text(to_json(result.document), encoding="utf-8")
    lines = [f"{json.dumps(to_plain(run_document(run)))}\n" for run in result.runs]
    (folder / EPISODES).write_text("".join(lines), encoding="utf-8")
    video = None
    if any(run.images for run in result.runs):
        write_video(folder / VIDEO, result.runs, result.spec.rate, result.spec.labels)
        video = base64_markup((folder / VIDEO).read_bytes())
    document = to_plain(result.document)
    labels = {label: failure_text(document, label) for label in document["failures"]}
    facts = list(dict.fromkeys(name for run in document["runs"] for name in run["facts"]))
    page = _render(
        "rollout.html.j2", result=document, name=policy_name(document), video=video, labels=labels, facts=facts
    )
    (folder / REPORT).write_text(page, encoding="utf-8")


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
        {"name": name, "data": base64_markup((folder / VIDEO).read_bytes())}
        for name, folder in rollouts.items()
        if (folder / VIDEO).is_file()
    ]
    labels = {label: failure_text(result, label) for result in results.values() for label in result["failures"]}
    page = _render(
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
        panels=base64_markup((eval_dir / PANELS).read_bytes()),
        commands=list(commands),
    )
    write_text_atomic(out, page)
    return out


def _render(template: str, **values: Any) -> str:
    """The page of a template of this package."""
    return _environment().get_template(template).render(legend=LEGEND, **values)


def policy_name(document: dict[str, Any]) -> str:
    """What a report calls the policy: the last parts of its path."""
    return "/".join(Path(str(document["bundle"]["path"])).parts[-2:]).lstrip("/")


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: significant digits, a true minus sign, `n/a` for none."""
    if value is None:
        return "n/a"
    if isinstance(value, int) or (abs(value) >= 10 ** (digits - 1) and abs(value) < 1e7):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as per cent with one digit where it matters."""
    if value is None:
        return "n/a"
    text = f"{100 * value:.1f}"
    return text.removesuffix(".0") + " %"


def interval(ends: list[float]) -> str:
    """A confidence interval of a share, in per cent."""
    return f"{percent(ends[0]).removesuffix(' %')} to {percent(ends[1])}"


def value_range(ends: list[float | None] | None) -> str:
    """A pair of numbers as `low to high`."""
    return "unknown" if ends is None else f"{number(ends[0], 3)} to {number(ends[1], 3)}"


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
        with suppress(ValueError):  # the torn last line of a run that was killed
            lines.append(json.loads(line))
    steps = [line for line in lines if line.get("kind") == "train" and "loss" in line]
    if not steps:
        return None
    scores = [line for line in lines if line.get("kind") == "validation"]
    first, last = steps[0], steps[-1]
    text = f"Loss {first['loss']:.3g} at step {first['step']}, {last['loss']:.3g} at step {last['step']}."
    if last.get("samples_per_s"):
        text += f" {last['samples_per_s']:.0f} samples a second."
    return {"image": base64_markup(training_curve(steps, scores)), "text": text}


def _against(own: float | None, baseline: float | None) -> str:
    if own is None or baseline is None:
        return ""
    return "good" if own < baseline else "bad"


def _fact(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "unknown"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_fact_of(key, item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _fact_of(key: str, value: Any) -> str:
    return episode_ranges(value) or "none" if key.endswith("_episodes") and isinstance(value, list) else _fact(value)


@cache
def _environment() -> jinja2.Environment:
    environment = page_environment(Path(__file__).parent / "templates")
    environment.filters.update(
        num=number, percent=percent, interval=interval, range=value_range, against=_against, fact=_fact
    )
    return environment
