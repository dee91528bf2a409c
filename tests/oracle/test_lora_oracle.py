"""LoRA checkpoints as LeRobot and peft write them, against peft's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.smolvla import load_policy

from .conftest import lerobot_policy
from .test_checkpoints_oracle import (
    assert_same,
    lerobot_chunk,
    lerobot_loads,
    lerobot_saves,
    noise_for,
    raw_frame,
    statistics,
)

pytestmark = pytest.mark.oracle

OPTIONS: dict[str, dict[str, Any]] = {
    "lerobots_targets": {},
    "rslora_and_patterns": {"use_rslora": True, "rank_pattern": {"state_proj": 3}, "alpha_pattern": {"state_proj": 5}},
    "modules_to_save": {"modules_to_save": ["action_out_proj"]},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_adapter_by_peft(case: str, vlm_folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    policy = lerobot_policy(vlm_folder)
    stats = statistics(6, 6)
    base = lerobot_saves(policy, stats, tmp_path / "base")
    policy.config.pretrained_path = str(base)
    targets = r"(model\.vlm_with_expert\.lm_expert\..*\.(q|v)_proj|model\.(state_proj|action_in_proj))"
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **OPTIONS[case])
    wrapped = policy.wrap_with_peft(peft_config=config)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
            assert "lora" in name or "modules_to_save" in name
    folder = tmp_path / "adapter"
    wrapped.save_pretrained(folder)
    policy.config._save_pretrained(folder)
    _, pre, post = lerobot_loads(base)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    ours = load_policy(folder, device="cpu")
    frame, noise = raw_frame(policy.config), noise_for(ours)
    assert_same(ours.predict_chunk(frame, noise), lerobot_chunk((policy, pre, post), frame, noise), stats)
    plain = load_policy(base, device="cpu").predict_chunk(frame, noise)
    assert (ours.predict_chunk(frame, noise) - plain).abs().max() > 0.1
