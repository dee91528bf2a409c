"""The README's chapter "Your own data", in short, on a real recording: Unitree G1 with two hands, 26 joints, AV1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.smolvla import load_policy
from smolpilot.training.run.metrics_log import read_metrics

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def recording(real_data: Path) -> Path:
    path = real_data / "g1_bottle_v21"
    if not path.is_dir():
        pytest.skip("this recording is not here")
    return path


@pytest.fixture(scope="module")
def run(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "run"
    args = ["train", "--dataset", str(recording), "--robot", "unitree_g1_inspire", "--preset", "tiny"]
    short = ["--steps", "60", "--batch-size", "16", "--episodes", "0-3", "--held-out", "0.25", "--eval-frames", "16"]
    augment = ["--augment", "crop=0.9", "color=0.9", "erase=0.3", "--chunk-size", "50"]
    assert main([*args, "--from-scratch", "--out", str(out), *short, *augment, "--device", "cpu"]) == 0
    return out


def test_info_tells_joints_camera_and_instruction(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(recording), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["version"], facts["frames"], facts["fps"]) == ("v2.1", 2725, 30.0)
    assert "Pick up the yellow bottle on the table." in json.dumps(facts)


def test_the_loss_falls_and_the_error_is_in_the_robots_joints(run: Path) -> None:
    lines = read_metrics(run / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]
    mae = [line for line in lines if line["kind"] == "validation"][-1]["mae"]
    assert len(mae) == 26
    assert {"left_elbow", "right_thumb_rotation"} <= mae.keys()


def test_chunks_for_raw_frames_are_in_the_recordings_units_and_come_from_image_state_and_noise(
    run: Path, recording: Path
) -> None:
    from smolpilot.datasets import open_dataset

    policy = load_policy(run)
    dataset = open_dataset(recording, episodes=[5], chunk_size=50)
    frame = dataset[100]
    noise = torch.randn(50, policy.config.max_action_dim, generator=torch.Generator().manual_seed(0))
    chunk = policy.predict_chunk(frame, noise)
    assert chunk.shape == (50, 26)
    # 60 steps teach little, but in the right units: each joint stays near where the training data had it.
    statistics = policy.statistics["action"]
    spread = statistics["max"] - statistics["min"]
    assert (chunk.numpy() > statistics["min"] - spread).all()
    assert (chunk.numpy() < statistics["max"] + spread).all()
    assert torch.equal(policy.predict_chunk(frame, noise), chunk)
    dark = torch.zeros_like(frame["observation.images.cam_high"])
    for change in ({"observation.images.cam_high": dark}, {"observation.state": -frame["observation.state"]}):
        assert not torch.equal(policy.predict_chunk({**frame, **change}, noise), chunk), change.keys()
    assert not torch.equal(policy.predict_chunk(frame, -noise), chunk)


def test_evaluation_on_the_held_out_episode(run: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    args = ["eval", str(run), "--dataset", str(recording), "--out", str(out), "--max-frames", "24"]
    assert main([*args, "--json"]) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert document["split"]["episodes"] == load_policy(run).lineage["held_out_episodes"]
    assert len(document["split"]["episodes"]) == 1
    assert document["split"]["trained_on"] == []
    assert len(document["joints"]) == 26
    assert document["baselines"].keys() == {"hold", "mean_action"}
    assert document["non_finite"] == {"nan": 0, "infinite": 0}
    assert (out / "report.html").stat().st_size > 50_000
    assert (out / "panels.png").is_file()
