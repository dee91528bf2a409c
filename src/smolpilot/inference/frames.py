"""A made-up frame that fits a policy: for warm-up and for timing, never for a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.keys import STATE, TASK, image_key

if TYPE_CHECKING:
    from smolpilot.policy import Policy

    from .engine import Engine


def made_up_frame(policy: Policy | Engine, seed: int = 0) -> dict[str, Any]:
    """Noise in every camera, at the size of the policy's slot; the mean state; the first trained instruction."""
    rng = np.random.default_rng(seed)
    config = policy.config
    frame: dict[str, Any] = {}
    for camera, slot in policy.transforms.camera_map.items():
        if slot is not None:
            _, height, width = config.image_shapes[slot]
            frame[image_key(camera)] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mean = policy.statistics.get(STATE, {}).get("mean", np.zeros(config.state_dim))
    frame[STATE] = np.asarray(mean, dtype=np.float32)
    frame[TASK] = policy.instructions[0] if policy.instructions else "pick up the cube"
    return frame
