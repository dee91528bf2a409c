"""Options of `smolpilot preflight`; the field docs are the help text. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smolpilot.common.option_types import Flag, Pairs, Tokens


@dataclass(frozen=True)
class PreflightOptions:
    """Check that a dataset, a robot, a policy and an instruction go together, before training or running."""

    dataset: Path
    """LeRobot dataset folder."""
    robot: str | None = None
    """Robot profile: a shipped name (smolpilot robot list) or a YAML file; `none`: no profile. Default: by the
    dataset's robot_type, else by its joint names."""
    policy: str | None = None
    """Policy to fine-tune or run: bundle, LeRobot checkpoint folder or hub id."""
    instruction: str | None = None
    """The instruction that the robot will be given."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `all=deg` or `gripper.pos=fraction`."""
    norm_stats: Literal["parent", "dataset", "merged"] | None = None
    """Statistics to normalize with when fine-tuning, as for `train`. Default: as `train` decides."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the policy has none."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the dataset fills which camera slot of the policy, as for `train`: `top=camera1 side=none`."""
    chunk_size: Tokens | None = None
    """Actions predicted at once, as for `train`. Default: the policy's."""
    max_tokens: Tokens | None = None
    """Room for an instruction, in tokens, as for `train`. Default: the policy's."""
    episodes: str | None = None
    """Episodes to train on, as for `train`: `0-40,45`. Default: all."""
    json: Flag = False
    """Print one JSON document."""
