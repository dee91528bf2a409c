"""A checkpoint with keys of a later LeRobot, as our bundle, in LeRobot 0.6.1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.smolvla import load_policy, localize, save_bundle

from .conftest import lerobot_policy
from .test_checkpoints_oracle import assert_same, lerobot_chunk, lerobot_loads, lerobot_saves, noise_for, raw_frame
from .test_checkpoints_oracle import statistics as make_statistics

pytestmark = pytest.mark.oracle


def test_bundle_of_a_newer_checkpoint(vlm_folder: Path, tmp_path: Path) -> None:
    theirs, statistics = lerobot_policy(vlm_folder), make_statistics(6, 6)
    folder = lerobot_saves(theirs, statistics, tmp_path / "checkpoint")
    frame = raw_frame(theirs.config)
    noise = noise_for(load_policy(folder, device="cpu"))
    expected = lerobot_chunk(lerobot_loads(folder), frame, noise)
    values = json.loads((folder / "config.json").read_text())
    newer = {"fine_tune_vision_encoder": False, "vision_encoder_lr_multiplier": 0.1}
    (folder / "config.json").write_text(json.dumps({**values, **newer}))
    bundle = save_bundle(load_policy(folder, device="cpu"), tmp_path / "bundle")
    localize(bundle)
    assert_same(lerobot_chunk(lerobot_loads(bundle, strict=True), frame, noise), expected, statistics)
