"""`train --overfit`: passes on good frames, and tells a contradictory recording from settings that cannot learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.selftest.overfit import look_at
from smolpilot.smolvla import PolicyInputs, new_policy, save_bundle

JOINTS = ["pan", "lift"]


def record(path: Path, *, contradictory: bool) -> Path:
    """One camera, two joints, two episodes of 12 frames; contradictory: nothing changes but the commanded actions."""
    draw = np.random.default_rng(0)
    with DatasetWriter(path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras={"front": (48, 64)}) as writer:
        for episode in range(2):
            for frame in range(12):
                phase = frame / 6 + episode
                state = np.array([np.sin(phase), np.cos(phase)], dtype=np.float32)
                picture = np.full((48, 64, 3), 60, np.uint8)
                picture[4 : 4 + 3 * frame, 8:40] = 200
                action = state
                if contradictory:
                    state, picture[:] = np.zeros(2, np.float32), 90
                    action = draw.uniform(-1, 1, 2).astype(np.float32)
                values = {"observation.state": state, "action": action, "observation.images.front": picture}
                writer.add_frame({**values, "task": "wave"})
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("good") / "data", contradictory=False)


@pytest.fixture(scope="module")
def bundle(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frozen vision and language: what they make of the frames is computed once, so the test is quick."""
    frozen = {"chunk_size": 4, "n_action_steps": 4, "train_expert_only": True, "freeze_vision_encoder": True}
    policy = new_policy("tiny", meta=open_dataset(good).meta, seed=1, device="cpu", overrides=frozen)
    return save_bundle(policy, tmp_path_factory.mktemp("bundle") / "policy")


def words(dataset: Path, bundle: Path, *more: str) -> list[str]:
    base = ["train", "--overfit", "--dataset", str(dataset), "--policy", str(bundle), "--device", "cpu"]
    return [*base, "--lr", "3e-3", "--batch-size", "16", "--norm-stats", "dataset", *more]


def test_good_frames_pass(good: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "never"
    assert main(words(good, bundle, "--out", str(out), "--episodes", "1")) == 0
    said = capsys.readouterr().out
    assert "passed: the policy overfits 8 frames of episode 1" in said
    assert "pan: error 0.0" in said
    assert "dataset units" in said
    assert not out.exists()


def test_settings_that_cannot_learn_are_model_trouble(
    good: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(good, bundle, "--lr", "1e-9", "--steps", "20")) == 1
    said = capsys.readouterr().out
    assert "failed: after 20 steps on 8 frames of episode 0" in said
    assert "does not learn made-up motion" in said
    assert "The model or its settings are the trouble: --lr 1e-09" in said


def test_actions_that_follow_from_nothing_are_data_trouble(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = record(tmp_path / "data", contradictory=True)
    assert main(words(dataset, bundle, "--steps", "150")) == 1
    said = capsys.readouterr().out
    assert "The same network learns made-up motion" in said
    assert "The data is the likely trouble" in said
    assert "have the same images and state but other actions" in said
    assert "shows one color only" in said


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--overfit", "--dataset", str(tmp_path), "--preset", "tiny", "--from-scratch",
                 "--steps", "0"]) == 2  # fmt: skip
    assert "--steps is 0" in capsys.readouterr().err
    assert main(["train", "--overfit", "--resume", "--out", str(tmp_path / "run")]) == 2
    assert "There is no run" in capsys.readouterr().err


def inputs(actions: torch.Tensor) -> PolicyInputs:
    count = len(actions)
    draw = torch.Generator().manual_seed(0)
    pictures = torch.rand(count, 1, 3, 8, 8, generator=draw) * 2 - 1
    text = torch.ones(count, 2, dtype=torch.int64)
    return PolicyInputs(
        images=pictures, image_masks=torch.ones(count, 1), tokens=text, token_mask=text,
        state=torch.rand(count, 4, generator=draw), actions=actions,
    )  # fmt: skip


def test_what_can_be_seen_in_the_frames_themselves() -> None:
    moving = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(1))
    assert look_at(inputs(moving), 2, JOINTS) == []
    assert "no joint moves" in look_at(inputs(torch.zeros(4, 3, 2)), 2, JOINTS)[0]
    far = moving.clone()
    far[2, 1, 1] = -80
    assert look_at(inputs(far), 2, JOINTS) == [
        "lift lies 80 standard deviations from its mean: statistics or units are wrong"
    ]
