"""The results of a closed loop as a document, and those of a folder as they were written, by this version or before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_object
from smolpilot.contracts import Image, Outcome
from smolpilot.evaluation.rates.intervals import rate_row
from smolpilot.evaluation.rates.wording import planning_text

CRASHED = "crashed"  # the label of an episode whose simulation failed
FORMAT = "smolpilot-rollout/2"
RESULTS, VIDEO, EPISODES = "results.json", "video.mp4", "episodes.jsonl"
LANGUAGE = "episodes_language.jsonl"  # the same scenes under their other texts
_FIRST = "smolpilot-rollout/1"
# What the first format called failures, and what they meant.
_FIRST_LABELS = {"other": "reached another goal", "none": "reached none in time"}


@dataclass
class Run:
    """One episode: what was asked, how it ended (`label`, `facts`: the environment's words), in how many steps."""

    seed: int
    instruction: str
    groups: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    success: bool = False
    steps: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)
    success_at_end: bool = False  # the goal held at the last step, too
    plans: int = 0  # chunks that were planned
    planning_s: float = 0.0  # its share of the time that planning took
    error: str = ""  # why the simulation failed, where it did
    alternatives: list[str] = field(default_factory=list)  # the scene's other instructions
    reached: list[str] = field(default_factory=list)  # whose goals were reached, in that order; see Outcome
    images: list[Image] = field(default_factory=list, repr=False)

    def end(self, outcome: Outcome) -> None:
        """Take how it ended from the environment."""
        self.label, self.success = str(outcome.label), bool(outcome.success)
        self.success_at_end = self.success if outcome.success_at_end is None else bool(outcome.success_at_end)
        self.facts = {name: float(value) for name, value in outcome.facts.items()}
        self.reached = list(outcome.reached)


def summarize_runs(runs: Sequence[Run], header: Mapping[str, Any]) -> dict[str, Any]:
    """Success rate with its exact 95 % interval, failures by the environment's labels, and the same by group.

    header: `env`, `goal`, `labels`, `untrained`, `swap_instruction` and the other settings of the run.
    """
    steps, at_end = [run.steps for run in runs if run.success], sum(run.success_at_end for run in runs)
    if steps and min(steps) >= header.get("max_steps", np.inf):
        steps = []  # episodes that go on after success: their length says nothing
    labels = list(header["labels"])
    total = _count(runs, labels)
    low, high = total["interval"]
    who = "the untrained policy" if header["untrained"] else "the policy"
    swapped = " with the instruction swapped" if header["swap_instruction"] else ""
    return {
        "format": FORMAT,
        **header,
        **total,
        "text": f"{who[0].upper()}{who[1:]} succeeded in {total['successes']} of {len(runs)} fresh episodes of "
        f"{header['env']}{swapped} ({header['goal']}): {100 * total['success_rate']:.3g} %, 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %.",
        "what_it_shows": planning_text(total["successes"], len(runs)),
        "success_at_end": at_end,
        "facts": mean_facts([run.facts for run in runs]),
        "mean_steps_to_success": float(np.mean(steps)) if steps else None,
        "by_group": [
            {"group": group, "value": value, **_count([run for run in runs if run.groups.get(group) == value], labels)}
            for group, values in _groups_of(runs).items()
            for value in values
        ],
        "runs": [run_document(run) for run in runs],
    }


def mean_facts(facts: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The environment's numbers, each averaged over the episodes that have it; nan where none has it."""
    names = dict.fromkeys(name for own in facts for name in own)
    return {
        name: float(np.mean([own[name] for own in facts if own.get(name) is not None] or [np.nan])) for name in names
    }


def run_document(run: Run) -> dict[str, Any]:
    """A run as results.json and episodes.jsonl have it."""
    return {name: value for name, value in vars(run).items() if name != "images"}


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a rollout's folder in the present form; UsageError where there is none that can be read."""
    document = read_document(folder, RESULTS)
    try:
        return _from_first(document) if document.get("format") == _FIRST else document
    except (AttributeError, KeyError, TypeError) as error:
        raise _unreadable(folder, RESULTS) from error


def read_document(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a folder; UsageError where there is none that can be read."""
    try:
        return read_json_object(folder / name)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name) from error


def failure_text(result: Mapping[str, Any], label: str) -> str:
    """What a label means, in the environment's words."""
    return str(result["labels"].get(label, label))


def _unreadable(folder: Path, name: str) -> UsageError:
    return UsageError(f"{folder} holds no readable {name}.", fix="run the evaluation or rollout that writes it again")


def _groups_of(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Group -> its values, sorted, of the runs that have it."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for group, value in run.groups.items():
            found.setdefault(group, set()).add(value)
    return {group: sorted(values) for group, values in found.items()}


def _count(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
    failed = Counter(run.label for run in runs if not run.success)
    return {
        **rate_row(sum(run.success for run in runs), len(runs)),
        "failures": {label: failed[label] for label in dict.fromkeys([*labels, *sorted(failed)])},
    }


def _from_first(old: dict[str, Any]) -> dict[str, Any]:
    """A document of the first format, which had one group and two kinds of failure."""

    def failures(row: Mapping[str, Any]) -> dict[str, int]:
        return {label: row["reached"][label] for label in _FIRST_LABELS}

    (key,) = [name for name in old if name.startswith("by_")]
    group = key.removeprefix("by_")
    kept = {name: value for name, value in old.items() if name not in (key, "reached", "runs")}
    rows = [
        {name: value for name, value in row.items() if name not in (group, "reached")}
        | {"group": group, "value": row[group], "failures": failures(row)}
        for row in old[key]
    ]
    runs = [
        {"seed": run["seed"], "instruction": run["instruction"], "groups": {group: run["named"]},
         "label": "named" if run["success"] else "none" if run["reached"] is None else "other",
         "success": run["success"], "steps": run["steps"], "facts": {}}
        for run in old["runs"]
    ]  # fmt: skip
    return kept | {"goal": "", "labels": dict(_FIRST_LABELS), "failures": failures(old), "by_group": rows, "runs": runs}
