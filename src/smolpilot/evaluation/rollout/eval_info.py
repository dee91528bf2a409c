"""LeRobot's eval_info.json, read and written: a rate of `lerobot-eval` beside ours, and ours where others read it.

Two forms are read: that of LeRobot 0.6 (`per_task`, `per_group`, `overall`), which names no seeds, and that of before
(`per_episode`, `aggregated`), which does. The first is written (lerobot/scripts/lerobot_eval.py: eval_policy_all), with
two keys more: each task's `instruction`, and its `seeds` beside the successes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_object
from smolpilot.common.text import shown

EVAL_INFO = "eval_info.json"
_REWARD = "max_reward"  # the fact of environments that have rewards


@dataclass(frozen=True)
class EvalInfo:
    """The episodes of a file: success of each, their seeds where it has them, and which environments it names."""

    successes: list[bool]
    seeds: list[int] | None
    groups: list[str]


def read_eval_info(path: Path) -> EvalInfo:
    """The episodes in a file of `lerobot-eval`; UsageError for what is none."""
    try:
        document = read_json_object(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", expected="LeRobot's eval_info.json") from error
    try:
        if "per_episode" in document:
            rows = document["per_episode"]
            found = EvalInfo([_truth(row["success"]) for row in rows], _seeds([row.get("seed") for row in rows]), [])
        else:
            tasks = document["per_task"]
            metrics = [task["metrics"] for task in tasks]
            seeds = [seed for one in metrics for seed in one.get("seeds") or [None] * len(one["successes"])]
            successes = [_truth(success) for one in metrics for success in one["successes"]]
            found = EvalInfo(successes, _seeds(seeds), list(dict.fromkeys(str(task["task_group"]) for task in tasks)))
        if found.seeds is not None and len(found.seeds) != len(found.successes):
            raise ValueError(f"{len(found.seeds)} seeds of {len(found.successes)} episodes")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no eval_info.json of LeRobot: {type(error).__name__}: {error}.",
            expected="`per_task` with successes (LeRobot 0.6), or `per_episode` (before)",
        ) from error
    if not found.successes:
        raise UsageError(f"{path} holds no episode.")
    return found


def eval_info(document: Mapping[str, Any], video: str | None = None) -> dict[str, Any]:
    """A rollout's document in LeRobot's form: one task for each instruction, all in the group of the environment.

    Null where LeRobot has a number that is not known here: rewards, but for the largest one of environments that tell
    it, and the duration.
    """
    texts = sorted({run["instruction"] for run in document["runs"]})
    tasks = []
    for number, text in enumerate(texts):
        runs = [run for run in document["runs"] if run["instruction"] == text]
        metrics = {
            "sum_rewards": [None] * len(runs),
            "max_rewards": [run["facts"].get(_REWARD) for run in runs],
            "successes": [bool(run["success"]) for run in runs],
            "video_paths": [video] if video is not None and number == 0 else [],
            "predicted_video_paths": [],
            "seeds": [run["seed"] for run in runs],
        }
        tasks.append({"task_group": document["env"], "task_id": number, "metrics": metrics, "instruction": text})
    total = _aggregated([task["metrics"] for task in tasks])
    return {
        "per_task": tasks,
        "per_group": {document["env"]: total},
        "overall": {**total, "eval_s": None, "eval_ep_s": None},
    }


def write_eval_info(folder: Path, document: Mapping[str, Any], video: str | None = None) -> None:
    """Write eval_info.json of a rollout into an existing folder. video: name of the video there."""
    (folder / EVAL_INFO).write_text(json.dumps(eval_info(document, video), indent=2) + "\n", encoding="utf-8")


def _aggregated(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As LeRobot averages the episodes of several tasks."""
    joined = {key: [value for one in metrics for value in one[key]] for key in metrics[0]} if metrics else {}
    successes = joined.get("successes", [])
    return {
        "avg_sum_reward": _mean(joined.get("sum_rewards", [])),
        "avg_max_reward": _mean(joined.get("max_rewards", [])),
        "pc_success": 100 * float(np.mean(successes)) if successes else None,
        "n_episodes": len(successes),
        "video_paths": joined.get("video_paths", []),
        "predicted_video_paths": joined.get("predicted_video_paths", []),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _truth(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError(f"a success is {shown(value)}, neither true nor false")
    return bool(value)


def _seeds(values: Sequence[Any]) -> list[int] | None:
    """The seeds, where every episode has one of its own."""
    known = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    return known if len(known) == len(values) == len(set(known)) else None
