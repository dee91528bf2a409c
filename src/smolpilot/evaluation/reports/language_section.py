"""The part of a rollout's page on language: each scene under its texts, and what was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolpilot.evaluation.rates.wording import listening_text
from smolpilot.evaluation.rollout.language import MEASURES, stored_test

from .charts import Axis, Figure, Row, interval_rows, stacked_rows
from .report_page import Plots
from .texts import Both, say

MOST_SCENES = 300  # rows of the list of scenes
_ENDS = {"right": "both", "other": "only_other", "nothing": "neither"}  # what was reached: kind of mark
_TONES = {"follows": "good", "opposes": "bad", "ignores": "warn", "not told apart": "warn", "not known": "warn"}


def language_section(document: Mapping[str, Any], plots: Plots) -> dict[str, Any] | None:
    """What the template shows of a results.json's `language`; None where texts were not tested."""
    found = document.get("language")
    if not found:
        return None
    rows = [
        {"name": say(f"language.{name}"), "of": say(f"language.of_{name}"), **found[name]}
        for name in MEASURES
        if found[name] is not None
    ]
    return {
        "verdict": Both(found["text"], listening_text(stored_test(found), "zh")),
        "tone": _TONES.get(found["decision"], "plain"),
        "rows": rows,
        "charts": [_shares(rows, plots), *([_told(found["told"], plots)] if found["told"] else [])],
        "scenes": found["by_scene"][:MOST_SCENES],
        "left_out": found["scenes_with_one_text"],
        "blind": found["scenes"] / found["right"]["episodes"],
    }


def _shares(rows: Sequence[Mapping[str, Any]], plots: Plots) -> Figure:
    csv = plots.write(
        "language", ["measure", "of", "count", "share", "low", "high"],
        [[str(row["name"]), row["episodes"], row["successes"], row["success_rate"], *row["interval"]] for row in rows],
    )  # fmt: skip
    shown = [
        Row(row["name"], "policy", 100 * row["success_rate"], [100 * end for end in row["interval"]]) for row in rows
    ]
    return Figure(say("plot.language"), interval_rows(shown, Axis(say("axis.share"), 0, 100)), (), csv)


def _told(rows: Sequence[Mapping[str, Any]], plots: Plots) -> Figure:
    header = ["told", "episodes", *_ENDS]
    csv = plots.write("language_told", header, [[row[name] for name in header] for row in rows])
    shown = [(say(f"language.told_{row['told']}"), [(kind, row[end]) for end, kind in _ENDS.items()]) for row in rows]
    legend = [(kind, say(f"language.end_{end}")) for end, kind in _ENDS.items()]
    axis = Axis(say("axis.episodes"), 0, max(row["episodes"] for row in rows), whole=True)
    return Figure(say("plot.language_told"), stacked_rows(shown, axis), legend, csv)
