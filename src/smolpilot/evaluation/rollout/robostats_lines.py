"""A rollout's episodes as robostats reads them: JSON lines of its record schema 2, with how `scenario_id` is composed.

    records = robostats.load_jsonl(FILE, protocol=robostats.Protocol(), success_field="success",
                                   policy_id_field="policy_id", task_id_field="task_id", seed_field="seed")

Source: robostats 0.2.0, `recording.EpisodeRecorder`, which writes the same lines. A scenario is a scene: environment,
settings, and seed, so that episodes of other settings are never paired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROBOSTATS = "episodes.robostats.jsonl"
SCHEMA_VERSION = 2


def robostats_lines(document: Mapping[str, Any]) -> list[str]:
    """A line for each episode of a rollout's document, without the line's end."""
    settings = ",".join(f"{name}={value}" for name, value in sorted(document["env_settings"].items()))
    constant = [document["env"], settings or "default settings"]
    if document["swap_instruction"]:
        constant.append("instruction swapped")
    lines = []
    for number, run in enumerate(document["runs"]):
        row = {
            "schema_version": SCHEMA_VERSION,
            "policy_id": document["bundle"]["path"],
            "task_id": run["instruction"] or document["env"],
            "success": bool(run["success"]),
            "scenario_id": "/".join([*constant, str(run["seed"])]),
            "episode_idx": number,
            "seed": run["seed"],
            "success_detail": _score(run["facts"]),
            "run_id": None,
            "protocol": {"execution_horizon": document["execution_horizon"], "extra": _settings(document)},
            "scenario_spec": [*map(repr, constant), "seed"],  # constants are quoted, fields are not
            "source": None,
        }
        lines.append(json.dumps(row, sort_keys=True))
    return lines


def write_robostats(folder: Path, document: Mapping[str, Any]) -> None:
    """Write the lines of a rollout into an existing folder."""
    text = "".join(f"{line}\n" for line in robostats_lines(document))
    (folder / ROBOSTATS).write_text(text, encoding="utf-8")


def _score(facts: Mapping[str, float]) -> float | None:
    """The environment's partial score: the first number that is the largest of the episode."""
    return next((float(value) for name, value in facts.items() if name.startswith("max_")), None)


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Physics and rendering, flat: what changes a rate without changing the policy."""
    simulation = document.get("simulation", {})
    return {
        f"{part}.{name}": value
        for part in ("physics", "render")
        for name, value in sorted(simulation.get(part, {}).items())
    }
