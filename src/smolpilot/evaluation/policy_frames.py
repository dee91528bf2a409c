"""Recorded frames as a policy's robot would give them: for parity, for calibration, for timing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.keys import STATE, TASK, image_key

from .binding import bind

if TYPE_CHECKING:
    from smolpilot.policy import Policy


def recorded_frames(policy: Policy, path: Path, count: int) -> list[dict[str, Any]]:
    """`count` frames spread evenly over a dataset; states in the policy's own joint order and units.

    Raises what `open_dataset` and `bind` raise.
    """
    from smolpilot.datasets import open_dataset

    dataset = open_dataset(path)
    bound = bind(policy, dataset.meta)
    states = bound.state.forward(dataset.states)
    rows = sorted(set(np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()))
    frames = []
    for row in rows:
        images = dataset.images(row)
        pictures = {image_key(camera): images[camera] for camera in bound.cameras}
        frames.append({STATE: states[row], **pictures, TASK: dataset.instruction(row)})
    return frames
