"""Options of `smolpilot preflight`; the field docs are the help text. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smolpilot.option_types import Pairs, Tokens


@dataclass(frozen=True)
class PreflightOptions:
    """Check that a dataset, a robot, a policy and an instruction go together, before training or running."""

    dataset: Path
    """LeRobot dataset folder."""
    robot: str | None = None
    """Robot profile: a shipped name (smolpilot robots) or a YAML file; `none`: no profile. Open: by the dataset's
    robot_type, else by its joint names."""
    policy: str | None = None
    """Policy to fine-tune or run: bundle, LeRobot checkpoint folder or hub id."""
    instruction: str | None = None
    """The text that will be said to the robot."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `all=deg` or `gripper.pos=fraction`."""
    stats: Literal["parent", "dataset", "merged"] | None = None
    """Normalization when fine-tuning, as for `train`. Open: what `train` would take."""
    stats_from: Path | None = None
    """Dataset whose statistics replace the policy's."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the policy carries none."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the dataset fills which camera slot of the policy, as for `train`: `top=camera1 side=none`."""
    chunk_size: Tokens | None = None
    """Actions predicted at once, as for `train`. Open: the policy's."""
    max_tokens: Tokens | None = None
    """Room for an instruction, in tokens, as for `train`. Open: the policy's."""
    episodes: str | None = None
    """Episodes to train on, as for `train`: `0-40,45`. Open: all."""
    json: bool = False
    """Print one JSON document instead."""
