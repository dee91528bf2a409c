"""robostats reads the lines that a rollout leaves for it, and finds in them what we find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.evaluation.rollout.comparing import compare_rollouts

robostats: Any = pytest.importorskip("robostats", reason="robostats is not installed")
FIELDS = {"success_field": "success", "policy_id_field": "policy_id", "task_id_field": "task_id", "seed_field": "seed",
          "episode_idx_field": "episode_idx", "success_detail_field": "success_detail"}  # fmt: skip


def load(folder: Path) -> Any:
    return robostats.load_jsonl(
        folder / "episodes.robostats.jsonl", protocol=robostats.Protocol(), strict=True, **FIELDS
    )


def play(policy: str, out: Path, *more: str) -> Path:
    words = ["rollout", policy, "--env", "tabletop", "--seed", "1", "--episodes", "40", "--video-episodes", "0"]
    assert main([*words, "--no-floors", *more, "--out", str(out)]) == 0
    return out


def test_it_reads_and_pairs_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [play(name, tmp_path / name) for name in ("random", "no-op")]
    a, b = map(load, folders)
    assert [(one.seed, one.success) for one in a] == [
        (run["seed"], run["success"]) for run in json.loads((folders[0] / "results.json").read_text())["runs"]
    ]
    paired = robostats.pair(a, b)
    theirs, interval = robostats.mcnemar(paired, method="exact"), robostats.paired_difference(paired)
    (ours,) = compare_rollouts(*folders)["pairs"]
    assert ours["p_value"] == pytest.approx(theirs.p_value)
    assert ours["interval"] == pytest.approx([interval.lower, interval.upper], abs=1e-6)


def test_it_refuses_to_pair_other_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = play("no-op", tmp_path / "one")
    other = play("random", tmp_path / "other", "--env-settings", "target=red")
    with pytest.raises(robostats.RobostatsError, match="scenario"):
        robostats.pair(load(one), load(other))


def test_a_line_is_one_of_its_own_recorder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = play("no-op", tmp_path / "one")
    ours = [json.loads(line) for line in (folder / "episodes.robostats.jsonl").read_text().splitlines()]
    with robostats.EpisodeRecorder(
        tmp_path / "theirs.jsonl", policy_id="no-op", scenario_prefix=["tabletop", "default settings"],
        scenario_fields=["seed"], protocol=robostats.Protocol(execution_horizon=50),
    ) as recorder:  # fmt: skip
        for line in ours:
            recorder.record(task_id=line["task_id"], scenario_id=line["scenario_id"], success=line["success"],
                            seed=line["seed"], episode_idx=line["episode_idx"])  # fmt: skip
    theirs = [json.loads(line) for line in (tmp_path / "theirs.jsonl").read_text().splitlines()]
    for line in ours:
        assert line["protocol"].pop("extra") == {}  # the tabletop has no settings of rendering or physics
    assert ours == theirs
