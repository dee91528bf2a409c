"""eval_info.json as LeRobot 0.6.1 aggregates it: its own functions over our episodes give the numbers that we write."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smolpilot.cli.main import main

lerobot_eval = pytest.importorskip("lerobot.scripts.lerobot_eval")
pytestmark = pytest.mark.oracle


class Nobody:
    """In place of a policy, which is asked nothing."""

    training = False

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...


def aggregated(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What LeRobot makes of the metrics of each task."""
    metrics = {(task["task_group"], task["task_id"]): task["metrics"] for task in written["per_task"]}

    def run_one(group: str, number: int, env: Any, **more: Any) -> Any:
        # What is null here has no number there.
        known = {key: [math.nan if value is None else value for value in values]
                 for key, values in metrics[group, number].items() if key != "seeds"}  # fmt: skip
        return group, number, known

    monkeypatch.setattr(lerobot_eval, "run_one", run_one)
    envs: dict[str, dict[int, Any]] = {}
    for group, number in metrics:
        envs.setdefault(group, {})[number] = SimpleNamespace(close=lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing but NaN
        found: dict[str, Any] = lerobot_eval.eval_policy_all(envs, Nobody(), None, None, None, None, n_episodes=1)
    return found


def same(theirs: Any, ours: Any) -> bool:
    return bool(ours is None and math.isnan(theirs)) or theirs == pytest.approx(ours)


def test_its_aggregation_gives_our_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rollout", "random", "--env", "tabletop", "--seed", "1", "--episodes", "30", "--video-episodes", "0"]
    assert main([*words, "--no-floors", "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "eval_info.json").read_text())
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    theirs = aggregated(written, monkeypatch)
    assert 0 < results["successes"] < 30
    assert theirs["overall"]["pc_success"] == pytest.approx(100 * results["success_rate"])
    assert theirs.keys() == written.keys()
    assert theirs["overall"].keys() == written["overall"].keys()
    assert [task.keys() - {"instruction"} for task in written["per_task"]] == [
        {"task_group", "task_id", "metrics"} for _ in theirs["per_task"]
    ]
    for name in ("avg_sum_reward", "avg_max_reward", "pc_success", "n_episodes", "video_paths"):
        assert same(theirs["overall"][name], written["overall"][name]), name
        assert same(theirs["per_group"]["tabletop"][name], written["per_group"]["tabletop"][name]), name


def test_rewards_are_averaged_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from smolpilot.evaluation.rollout.eval_info import eval_info

    runs = [{"seed": i, "instruction": "go", "success": i > 2, "facts": {"max_reward": float(i)}} for i in range(5)]
    written = eval_info({"env": "aloha", "runs": runs}, "video.mp4")
    theirs = aggregated(written, monkeypatch)
    assert written["overall"]["avg_max_reward"] == theirs["overall"]["avg_max_reward"] == 2
    assert written["overall"]["pc_success"] == pytest.approx(theirs["overall"]["pc_success"])
    assert written["overall"]["video_paths"] == theirs["overall"]["video_paths"] == ["video.mp4"]
