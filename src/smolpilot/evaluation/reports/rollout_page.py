"""results.json, episodes.jsonl, videos, report.html and the CSV files behind its charts, of a closed loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.json_input import to_plain
from smolpilot.datasets.simulation_record import simulation_facts
from smolpilot.evaluation.offline.metrics_document import to_json
from smolpilot.evaluation.rates.intervals import rate_row
from smolpilot.evaluation.rollout.results import (
    EPISODES,
    LANGUAGE,
    RESULTS,
    VIDEO,
    failure_text,
    mean_facts,
    run_document,
)
from smolpilot.evaluation.rollout.tiled_video import write_video

from . import sentences
from .charts import Axis, Figure, Row, interval_rows, stacked_rows
from .episode_videos import Videos, write_episode_videos
from .language_section import language_section
from .offline_charts import latency_chart
from .report_page import REPORT, Plots, policy_name, render
from .texts import Text, known, say

if TYPE_CHECKING:
    from smolpilot.evaluation.rollout.closed_loop import RolloutResult

_MOST_FAILURES = 300  # rows of the list of failures
_SHOWN_VALUES = 40  # rows of a chart of a group
_CELLS = ("both", "only_policy", "only_other", "neither")


def write_rollout_report(folder: Path, result: RolloutResult) -> None:
    """Write the results into the existing `folder`; videos only when runs kept their images."""
    (folder / RESULTS).write_text(to_json(result.document), encoding="utf-8")
    lines = [f"{json.dumps(to_plain(run_document(run)))}\n" for run in result.runs]
    (folder / EPISODES).write_text("".join(lines), encoding="utf-8")
    if result.told:
        lines = [f"{json.dumps(to_plain(run_document(run)))}\n" for run in result.told]
        (folder / LANGUAGE).write_text("".join(lines), encoding="utf-8")
    if any(run.images for run in result.runs):
        write_video(folder / VIDEO, result.runs, result.spec.rate, result.spec.labels)
    episodes = write_episode_videos(folder, result)
    page = rollout_page(to_plain(result.document), folder, episodes)
    (folder / REPORT).write_text(page, encoding="utf-8")


def rollout_page(document: dict[str, Any], folder: Path, episodes: Mapping[int, Path]) -> str:
    """The page of a results.json in `folder`; episodes: the video of a seed, where there is one.

    Writes the CSV files behind its charts. Documents without gate, floors, verdict and rate have fewer parts.
    """
    plots, videos = Plots(folder), Videos(folder)
    contenders, video = _contenders(document), videos.show(folder / VIDEO)
    return render(
        "rollout.html.j2",
        result={"gate": None, "against": None, **document},
        name=policy_name(document),
        verdict=sentences.rollout_verdict(document),
        tone=_tone(document),
        shows=sentences.shows_sentence(document),
        contenders=contenders,
        rates=rates_chart(contenders, plots, "success", say("plot.success")),
        fact_names=list(dict.fromkeys(name for one in contenders for name in one["facts"])),
        paired=(paired := [one for one in contenders if one.get("paired")]),
        tests=sentences.tests_of(paired),
        paired_chart=_paired_chart(contenders, plots),
        groups=_groups(document, plots),
        moments=_moments(document, plots),
        language=language_section(document, plots),
        gate=sentences.gate_sentence(document["gate"]) if document.get("gate") else None,
        labels={label: failure_text(document, label) for label in document["failures"]},
        failures=_failures(document, folder, episodes, videos),
        most_failures=_MOST_FAILURES,
        video=video,
        facts_of_runs=list(dict.fromkeys(name for run in document["runs"] for name in run["facts"])),
        latency_chart=_planning(document, plots),
        environment=_environment(document),
    )


def _tone(document: Mapping[str, Any]) -> str:
    """The color of the verdict: only a test may make it good or bad."""
    gate, verdict = document.get("gate") or {}, document.get("verdict") or {}
    if gate.get("verdict") == "failed":
        return "warn"
    return {"better": "good", "worse": "bad", "not told apart": "warn"}.get(str(verdict.get("decision")), "plain")


def _contenders(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The policy, then floors and ceilings, as rows of one table."""
    own = {
        **{key: document[key] for key in ("episodes", "successes", "success_rate", "interval")},
        "successes_at_end": document.get("success_at_end"),
        "name": say("contender.policy"),
        "role": "policy",
        "text": "",
        "facts": document.get("facts") or mean_facts([run["facts"] for run in document["runs"]]),
    }
    floors = [
        {
            **floor,
            "name": sentences.floor_name(floor),
            "text": sentences.floor_text(floor),
            "role": floor["kind"],
            "facts": floor.get("facts") or {},
            "sentence": sentences.paired_sentence(floor) if floor.get("paired") else None,
        }
        for floor in document.get("floors") or []
    ]
    return [own, *floors]


def rates_chart(rows: Sequence[Mapping[str, Any]], plots: Plots, name: str, caption: Text) -> Figure:
    """Success rates with their intervals; rows: dicts with name, role and the counts."""
    csv = plots.write(
        name, ["name", "episodes", "successes", "success_rate", "low", "high"],
        [[str(row["name"]), row["episodes"], row["successes"], row["success_rate"], *row["interval"]] for row in rows],
    )  # fmt: skip
    shown = [
        Row(row["name"], row["role"], 100 * row["success_rate"], [100 * end for end in row["interval"]]) for row in rows
    ]
    roles = dict.fromkeys(row["role"] for row in rows)
    legend = [(f"{role} dot", say(f"legend.rate_{role}")) for role in roles]
    return Figure(caption, interval_rows(shown[:_SHOWN_VALUES], _PERCENT), legend, csv)


def _paired_chart(contenders: Sequence[Mapping[str, Any]], plots: Plots) -> Figure | None:
    pairs = [(one["name"], one["paired"]) for one in contenders if one.get("paired")]
    if not pairs:
        return None
    csv = plots.write(
        "paired", ["against", *_CELLS], [[str(name), *(own[key] for key in _CELLS)] for name, own in pairs]
    )
    most = max(sum(own[key] for key in _CELLS) for _, own in pairs)
    rows = [(name, [(key, own[key]) for key in _CELLS]) for name, own in pairs]
    legend = [(key, say(f"paired.{key}")) for key in _CELLS]
    return Figure(say("plot.paired"), stacked_rows(rows, Axis(say("axis.episodes"), 0, most, whole=True)), legend, csv)


def _groups(document: Mapping[str, Any], plots: Plots) -> list[dict[str, Any]]:
    """Success by instruction, then by what the environment groups its scenes by, such as the region of the start."""
    found: dict[str, list[dict[str, Any]]] = {}
    by_text: dict[str, list[bool]] = {}
    for run in document["runs"]:
        by_text.setdefault(run["instruction"], []).append(run["success"])
    if len(by_text) > 1:
        found["instruction"] = [
            {"name": text, **rate_row(sum(by_text[text]), len(by_text[text]))} for text in sorted(by_text)
        ]
    for row in document["by_group"]:
        found.setdefault(str(row["group"]), []).append({**row, "name": str(row["value"])})
    groups = []
    for number, (group, rows) in enumerate(found.items()):
        shown = [{**row, "role": "policy"} for row in rows]
        title = say("plot.by_group", group=known("group", group))
        file = "by_instruction" if group == "instruction" else f"by_group_{number}"
        groups.append({"name": known("group", group), "rows": rows, "chart": rates_chart(shown, plots, file, title)})
    return groups


def _moments(document: Mapping[str, Any], plots: Plots) -> dict[str, Any] | None:
    """Success at any step beside success at the last one; None for documents that did not count it."""
    at_end = document.get("success_at_end")
    if at_end is None or not document["episodes"]:
        return None
    counts = (("any_step", document["successes"]), ("last_step", at_end))
    rows = [
        {"name": say(f"moment.{name}"), "role": "policy", **rate_row(count, document["episodes"])}
        for name, count in counts
    ]
    return {"rows": rows, "lost": document["successes"] - at_end,
            "chart": rates_chart(rows, plots, "any_and_last_step", say("plot.moments"))}  # fmt: skip


def _failures(
    document: Mapping[str, Any], folder: Path, episodes: Mapping[int, Path], videos: Videos
) -> list[dict[str, Any]]:
    failed = [run for run in document["runs"] if not run["success"]]
    found = []
    for run in failed[:_MOST_FAILURES]:
        path = episodes.get(run["seed"])
        found.append({
            **run, "end": failure_text(document, run["label"]), "video": videos.show(path) if path else None,
            "link": path.relative_to(folder).as_posix() if path else None,
        })  # fmt: skip
    return found


def _planning(document: Mapping[str, Any], plots: Plots) -> Figure | None:
    times = [1000 * run["planning_s"] / run["plans"] for run in document["runs"] if run.get("plans")]
    return latency_chart(
        times, plots, document.get("rate"), document["execution_horizon"], "planning_time",
        say("plot.planning", n=document.get("parallel") or 1), say("axis.episodes"),
    )  # fmt: skip


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that decide about the scenes and how they look; simulation: render, physics, packages."""
    texts = list(dict.fromkeys(run["instruction"] for run in document["runs"] if run["instruction"]))
    last = document["seed"] + document["episodes"] - 1
    simulation = document.get("simulation") or {}
    return {
        "env": document["env"],
        "env_settings": document["env_settings"],
        "goal": document["goal"],
        "seeds": f"{document['seed']} … {last}",
        "rate": f"{document['rate']:g} Hz" if document.get("rate") else None,
        "longest_episode": max((run["steps"] for run in document["runs"]), default=None),
        "chunk_size": document["chunk_size"],
        "execution_horizon": document["execution_horizon"],
        "denoising_steps": document.get("denoising_steps"),
        "parallel": document.get("parallel"),
        "instructions": texts[:20],
        **simulation_facts(simulation),
    }


_PERCENT = Axis(say("axis.success"), 0, 100)
