"""Checkpoints of other LeRobot versions: what only training reads never stops a load, what moves a robot does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import adapt_policy, load_policy, new_policy, save_bundle

from .helpers_transforms import frame

# Of pull requests, branches and forks of LeRobot's SmolVLAConfig and PreTrainedConfig, and of other trainers.
TRAINING: dict[str, Any] = {
    "fine_tune_vision_encoder": True, "vision_encoder_lr_multiplier": 0.1, "optimizer_fused": True,
    "optimizer_foreach": True, "scheduler_name": "cosine", "gradient_checkpointing": True, "freeze_connector": True,
    "train_connector": False, "lora_r": 16, "lora_target_modules": "q_proj", "attention_backend": "sdpa",
    "push_checkpoints_to_hub": True, "hub_private": True, "text_temperature": 0.7, "rtc_training_config": {"delay": 3},
    "expert_lr": 1e-4, "lr_expert": 1e-4, "text_dropout": 0.1, "gradient_accumulation_steps": 4, "aux_loss_weight": 0.5,
    "dtype": "bfloat16", "wandb_project": "x", "warmup_ratio": 0.03, "ema_decay": 0.999, "unfreeze_last_layers": 2,
}  # fmt: skip
PREDICTION: dict[str, Any] = {
    "use_visual_memory": True, "visual_memory_frames": 4, "use_relative_ee": True, "normalize_per_robot_type": True,
    "vjepa": "facebook/vjepa2", "state_encoder": "mlp", "rename_map": {"a": "b"}, "chunk_sise": 3, "text_encoder": "t5",
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("saved") / "bundle")


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """What a LeRobot checkpoint is: without our own files."""
    folder = Path(shutil.copytree(saved, tmp_path / "checkpoint"))
    for name in ("smolpilot.json", "robot.yaml"):
        (folder / name).unlink()
    return folder


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.filterwarnings("ignore")
def test_training_keys_are_carried_along(checkpoint: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    expected = load_policy(checkpoint, device="cpu").predict_chunk(frame(), noise)
    edit_json(checkpoint / "config.json", lambda values: values.update(TRAINING))
    policy = load_policy(checkpoint, device="cpu")
    torch.testing.assert_close(policy.predict_chunk(frame(), noise), expected, rtol=0, atol=1e-6)
    (note,) = (note for note in policy.report.notes if "another LeRobot" in note)
    assert all(key in note for key in TRAINING)
    child = adapt_policy(policy, meta=open_dataset(tiny_dataset).meta)
    for name, source in (("own", policy), ("child", child)):
        bundle = save_bundle(source, tmp_path / name)
        # LeRobot 0.6.1 refuses a config.json with keys that it does not know.
        assert not TRAINING.keys() & json.loads((bundle / "config.json").read_text()).keys()
        assert json.loads((bundle / "smolpilot.json").read_text())["lerobot_keys"] == TRAINING
        assert load_policy(bundle, device="cpu").config.newer == TRAINING


def test_a_bundle_without_such_keys_says_nothing_of_them(saved: Path) -> None:
    assert "lerobot_keys" not in json.loads((saved / "smolpilot.json").read_text())
    assert load_policy(saved, device="cpu").config.newer == {}


@pytest.mark.parametrize("key", PREDICTION)
def test_what_may_change_a_prediction_is_refused_by_name(
    key: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_json(checkpoint / "config.json", lambda values: values.update({key: PREDICTION[key]}))
    assert main(["bundle", str(checkpoint)]) == 1
    said = capsys.readouterr().err
    assert f"'{key}'" in said
    assert "LeRobot 0.6.1 does not have: another version of LeRobot, or a fork, wrote it" in said
    assert "Did you mean" not in said
    # The way out that the message names.
    edit_json(checkpoint / "config.json", lambda values: values.pop(key))
    assert main(["bundle", str(checkpoint)]) == 0


@pytest.mark.parametrize("value", [None, False, [], {}, ""])
def test_what_is_switched_off_is_carried_along(value: object, checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", lambda values: values.update(use_visual_memory=value))
    assert load_policy(checkpoint, device="cpu").config.newer == {"use_visual_memory": value}


def test_older_configs_lack_keys(checkpoint: Path) -> None:
    later = ("rtc_config", "compile_model", "compile_mode", "pretrained_path", "use_peft", "min_period", "max_period")
    edit_json(checkpoint / "config.json", lambda values: [values.pop(key, None) for key in later])
    assert load_policy(checkpoint, device="cpu").report.missing == []


@pytest.mark.parametrize("file", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_steps_of_other_versions(file: str, checkpoint: Path) -> None:
    step = {"registry_name": "relative_actions_processor", "config": {"enabled": False}}
    edit_json(checkpoint / file, lambda values: values["steps"].insert(0, step))
    policy = load_policy(checkpoint, device="cpu")
    assert any("relative_actions_processor" in note and "switched off" in note for note in policy.report.notes)
    step["config"] = {"enabled": True}
    edit_json(checkpoint / file, lambda values: values["steps"].__setitem__(0, step))
    with pytest.raises(CheckpointError, match=r"'relative_actions_processor', which SmolVLA in LeRobot 0\.6\.1"):
        load_policy(checkpoint, device="cpu")
    edit_json(checkpoint / file, lambda values: values["steps"].__setitem__(0, {"class": "mine.Step", "config": {}}))
    with pytest.raises(CheckpointError, match=r"'mine\.Step'"):
        load_policy(checkpoint, device="cpu")
