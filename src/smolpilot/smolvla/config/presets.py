"""Named sizes of the network."""

from __future__ import annotations

from typing import Any

from smolpilot.common.errors import UsageError, did_you_mean

from .policy_config import PolicyConfig
from .vlm_config import TextConfig, VisionConfig, VLMConfig

PRESETS = ("smolvla", "tiny")


def preset(name: str, **overrides: Any) -> PolicyConfig:
    """The configuration of a preset; `overrides` are fields of PolicyConfig.

    smolvla: the public architecture (450 M parameters with its unused language head), 512-px images, chunks of 50.
    tiny: half a million parameters, 64-px images, chunks of 12, for tests, the demo and CPUs; everything is trained.
    """
    if name == "smolvla":
        return PolicyConfig(**{"n_action_steps": 10, **overrides})
    if name == "tiny":
        return PolicyConfig(**{**_TINY, **overrides})
    raise UsageError(f"Unknown preset '{name}'.", fix=did_you_mean(name, PRESETS))


_TINY: dict[str, Any] = {
    "vlm": VLMConfig(
        vision=VisionConfig(width=64, layers=2, heads=4, mlp_width=128, image_size=64, patch_size=16),
        text=TextConfig(width=64, layers=4, heads=4, kv_heads=2, head_dim=16, mlp_width=128, vocab_size=320),
        scale_factor=1,
    ),
    "vlm_model_name": "vlm",
    "resize_imgs_with_padding": (64, 64),
    "chunk_size": 12,
    "n_action_steps": 10,
    "num_vlm_layers": 4,
    "freeze_vision_encoder": False,
    "train_expert_only": False,
}
