"""What the files of a policy say of its network, read and checked: `PolicyConfig`, `VLMConfig`, the forms."""

from .policy_config import Feature, MaxTokens, Modes, Padding, PolicyConfig, check_steps
from .presets import PRESETS, preset
from .vlm_config import TextConfig, VisionConfig, VLMConfig

__all__ = [
    "PRESETS",
    "Feature",
    "MaxTokens",
    "Modes",
    "Padding",
    "PolicyConfig",
    "TextConfig",
    "VLMConfig",
    "VisionConfig",
    "check_steps",
    "preset",
]
