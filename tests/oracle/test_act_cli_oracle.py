"""`smolpilot eval` and stages with a checkpoint of LeRobot's ACT, as with a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy, save_bundle
from smolpilot.training.data.run_datasets import open_datasets
from smolpilot.training.options.sources import Source
from smolpilot.training.stages.plan import Scoring
from smolpilot.training.stages.score import Scale, open_reference, score_task

from .helpers_lerobot import act_config, write_checkpoint

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def act(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ACT of random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("act") / "act", act_config())


def test_eval_scores_an_act_beside_a_bundle(
    act: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = open_dataset(tiny_dataset).meta
    bundle = save_bundle(new_policy("tiny", meta=meta, device="cpu"), tmp_path / "bundle")
    found: dict[str, dict[str, Any]] = {}
    for name, policy in (("act", act), ("smolvla", bundle)):
        words = ["eval", str(policy), "--dataset", str(tiny_dataset), "--episodes", "0,3", "--max-frames", "6"]
        assert main([*words, "--out", str(tmp_path / name), "--device", "cpu", "--json"]) == 0
        captured = capsys.readouterr()
        found[name] = json.loads(captured.out)
        assert (tmp_path / name / "report.html").is_file()
    ours, theirs = found["smolvla"], found["act"]
    assert (theirs["bundle"]["kind"], theirs["bundle"]["chunk_size"], theirs["execution_horizon"]) == ("act", 8, 5)
    assert theirs.keys() == ours.keys()
    assert theirs["frames"] == ours["frames"] == 6
    assert [joint["name"] for joint in theirs["joints"]] == meta.action_names
    assert theirs["latency"]["chunk"]["count"] > 0


def test_the_table_is_printed_for_an_act(
    act: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(act), "--dataset", str(tiny_dataset), "--episodes", "0", "--max-frames", "2"]
    assert main([*words, "--out", str(tmp_path / "out"), "--engine", "fast"]) == 2
    assert "--engine" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "cameras: front -> front, wrist -> wrist" in out
    assert "The policy " in out


def test_stages_are_compared_with_an_act(act: Path, tiny_dataset: Path) -> None:
    source = Source(tiny_dataset, episodes="0,2,4", name="red")
    part = open_datasets([source], held_out=0.34, seed=0, notes=[])[0]
    meta = part.meta
    profile = RobotProfile.from_features(meta.state_names, meta.cameras, meta.fps, action_names=meta.action_names)
    scale = Scale(profile, meta.statistics)
    policy = open_reference(str(act), part, scale, "cpu")
    score = score_task(policy, part, Scoring(frames=4), None, scale, seed=0)
    policy.close()
    assert score.episodes == part.held_out_episodes
    assert score.joints == meta.action_names
    assert np.isfinite(score.error).all()
