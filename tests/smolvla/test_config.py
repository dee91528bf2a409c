"""LeRobot's config.json in and out."""

from __future__ import annotations

from typing import Any

import pytest

from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla.config import PolicyConfig, VLMConfig
from smolpilot.smolvla.config.presets import preset


def tiny() -> PolicyConfig:
    return preset("tiny", image_shapes={"top": (3, 64, 64)}, state_dim=4, action_dim=3)


def test_round_trip_keeps_every_key() -> None:
    config = tiny()
    values = {**config.to_lerobot(), "optimizer_lr": 3e-4, "device": "cuda"}
    again = PolicyConfig.from_lerobot(values, VLMConfig.from_json(config.vlm.to_json()))
    assert again.to_lerobot() == values
    assert (again.state_dim, again.action_dim, again.cameras) == (4, 3, ["top"])
    assert again.vlm == config.vlm


def test_empty_cameras_are_listed_last_and_need_no_robot_camera() -> None:
    values = {**tiny().to_lerobot(), "empty_cameras": 2}
    config = PolicyConfig.from_lerobot(values, tiny().vlm)
    assert config.cameras == ["top", "empty_camera_0", "empty_camera_1"]
    assert config.real_cameras == ["top"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "act"}, "type 'act'"),
        ({"chunk_sise": 5}, r"'chunk_sise' \(5\).*another version of LeRobot"),
        ({"adapt_to_pi_aloha": True}, "adapt_to_pi_aloha"),
        ({"use_delta_joint_actions_aloha": True}, "use_delta_joint_actions_aloha"),
        ({"n_obs_steps": 2}, "n_obs_steps"),
        ({"output_features": {}}, "'action' among the outputs"),
        (
            {"input_features": {"observation.state": {}}},
            r"'input_features.observation.state.type' in config.json is missing",
        ),
        ({"chunk_size": "fifty"}, r"'chunk_size' is 'fifty'.\nExpected: a whole number from 1 to 10,000"),
        ({"resize_imgs_with_padding": [64, 32]}, "64x32"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        PolicyConfig.from_lerobot({**tiny().to_lerobot(), **change}, tiny().vlm)


def test_another_vision_language_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="qwen2_vl"):
        VLMConfig.from_json({"model_type": "qwen2_vl"})
