"""What `--policy.type=smolpilot` takes on LeRobot's command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lerobot.configs import PreTrainedConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig


@PreTrainedConfig.register_subclass("smolpilot")
@dataclass
class SmolpilotConfig(PreTrainedConfig):
    """An engine for the bundle in `pretrained_path`; what is None is the bundle's own. Inference only."""

    mode: str = "fast"  # exact, fast, int8
    precision: str = "auto"
    backend: str = "auto"
    limit: float | None = None  # largest difference to the plain network, in standard deviations
    num_steps: int | None = None
    chunk_size: int | None = None  # the bundle's; not to be changed
    n_action_steps: int | None = None
    rtc_config: RTCConfig | None = None
    push_to_hub: bool = False

    @property
    def observation_delta_indices(self) -> list[int]:
        return [0]

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.chunk_size or 0))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> Any:
        raise NotImplementedError("smolpilot trains with `smolpilot train`, not with lerobot-train.")

    def get_scheduler_preset(self) -> None:
        return None

    def validate_features(self) -> None:
        """The bundle's features are checked when it is loaded."""
